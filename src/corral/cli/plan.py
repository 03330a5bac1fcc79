"""`corral plan -f FILE`: where the workloads of a manifest would go, without creating them."""

import difflib
from collections.abc import Iterator, Sequence

import click
import orjson

from corral.base.errors import CorralError
from corral.cli import manifests, terminal
from corral.cli.manifests import Manifest
from corral.cli.session import Session, connected
from corral.cli.why import advice
from corral.client.api import ApiRequest
from corral.client.client import decode
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.scheduler.dryrun import COMPANIONS
from corral.scheduler.expand import GROUPS, WORKLOADS

EXIT_DOES_NOT_FIT = 1
_NAMED = 6
"""Machines and pods shown by name in one cell of the table."""


@click.command("plan", short_help="Show where workloads would go, without creating them.")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Manifest, directory, or - for stdin.",
)
@click.option("-R", "--recursive", is_flag=True, help="Also the directories within a directory.")
@click.option("-o", "--output", type=click.Choice(["wide", "json", "yaml", "name"]), help="Output format.")
@connected
async def command(session: Session, paths: tuple[str, ...], recursive: bool, output: str | None) -> int:
    """Show where the workloads in FILE would go now, which pods would have to go for them, and why the rest would wait.

    Nothing is created. Exit code: 0, everything fits; 1, something does not; 125, there is no plan.
    """
    asked = list(_workloads(manifests.read(paths, recursive=recursive)))
    answer = await _ask(session, asked)
    if output in ("json", "yaml"):
        terminal.emit(answer, output)
    elif output == "name":
        for one in answer["workloads"]:
            click.echo(_title(one))
    else:
        click.echo("\n".join(words(answer, wide=output == "wide")))
    return 0 if answer["fits"] else EXIT_DOES_NOT_FIT


def _workloads(found: Sequence[Manifest]) -> Iterator[Manifest]:
    """Those that have pods, then what pods belong to or lean on; the rest is noted."""
    kinds = sorted({kind for _, kind in WORKLOADS})
    others: list[Manifest] = []
    aside: list[str] = []
    for one in found:
        kind = str(one.obj["kind"])
        alike = difflib.get_close_matches(kind, kinds, 1, cutoff=0.8)
        if kind in kinds:
            yield one
        elif kind in {kind for _, kind in (*GROUPS, *COMPANIONS)}:
            others.append(one)
        elif alike:
            raise CorralError(f"cannot plan {one.title} in {one.source}: no such kind", f"did you mean {alike[0]}?")
        else:
            aside.append(one.title)
    if len(aside) + len(others) == len(found):
        titles = ", ".join(one.title for one in found)
        raise CorralError(f"cannot plan {titles}: no pods come of them", f"name one of {', '.join(kinds)}")
    yield from others
    if aside:
        terminal.note(f"no pods come of {', '.join(aside)}")


async def _ask(session: Session, asked: Sequence[Manifest]) -> Obj:
    path = f"/apis/corral.dev/v1/namespaces/{session.namespace}/plans"
    body = orjson.dumps({"kind": "Plan", "apiVersion": "corral.dev/v1", "items": [one.obj for one in asked]})
    try:
        return decode(await session.client.transport.call(ApiRequest("POST", path, {}, body)))
    except StatusError as error:
        told = [f"{_source(cause.field, asked)}: {cause.message}" for cause in error.causes]
        if not told:
            raise
        raise CorralError("cannot plan\n  " + "\n  ".join(told), "correct what it says there") from error


def _source(field: str, asked: Sequence[Manifest]) -> str:
    """What a person calls `items[N]`."""
    number = field.removeprefix("items[").removesuffix("]")
    if not number.isdigit() or int(number) >= len(asked):
        return field
    return f"{asked[int(number)].title} in {asked[int(number)].source}"


def words(answer: Obj, *, wide: bool) -> Iterator[str]:
    """The plan for a person: a table, then what does not fit and why."""
    workloads = answer["workloads"]
    several = len({one["namespace"] for one in workloads}) > 1
    header = ["POD", "MACHINE", "PREEMPTS"] if wide else ["WORKLOAD", "PODS", "MACHINES", "PREEMPTS"]
    rows = []
    for one in workloads:
        for row in _pods(one) if wide else [_row(one)]:
            rows.append([one["namespace"], *row] if several else row)
    yield from terminal.columns(["NAMESPACE", *header] if several else header, rows).splitlines()
    for one in workloads:
        for note in one["notes"]:
            yield f"{_title(one)}: {note}"
        for refusal in one["refused"]:
            yield from _refusal(one, refusal)


def _title(one: Obj) -> str:
    return f"{one['kind'].lower()}/{one['name']}"


def _row(one: Obj) -> list[str]:
    machines = [f"{name} ({count})" if count > 1 else name for name, count in one["machines"].items()]
    victims = dict.fromkeys(victim for each in one["assignments"] for victim in each["preempts"])
    return [_title(one), f"{one['placed']}/{one['pods']}", _some(machines), _some(list(victims))]


def _pods(one: Obj) -> Iterator[list[str]]:
    for each in one["assignments"]:
        yield [each["pod"], each["node"], ", ".join(each["preempts"]) or "-"]
    for refusal in one["refused"]:
        for pod in refusal["pods"]:
            yield [pod, "-", "-"]


def _refusal(one: Obj, refusal: Obj) -> Iterator[str]:
    pods = refusal["pods"]
    yield f"{_title(one)}: {len(pods)} pod{'s' * (len(pods) != 1)} would wait ({_some(pods)}): {refusal['message']}"
    yield from (f"  {line}" for line in advice(refusal))


def _some(names: Sequence[str]) -> str:
    return terminal.some(names, _NAMED) or "-"

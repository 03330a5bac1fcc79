"""`corral repair`: what is done about machines in trouble, what was, and by which rules."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
import yaml

from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import Session, connected
from corral.client.api import MERGE_PATCH
from corral.fleet.rules import BadPolicy, default_text, read_policy
from corral.fleet.words import attempt_line, fate, seen_lines
from corral.kinds.repairs import POLICY, REPAIR_POLICIES, REPAIRS, Repair, read
from corral.kinds.status import StatusError
from corral.kinds.tables import human_duration
from corral.kinds.types import Obj

_FORMS = click.Choice(["wide", "json", "yaml", "name"])


@click.group("repair", short_help="Show what is done about machines in trouble, and by which rules.")
def command() -> None:
    """Repairs: one for each incident of a machine, from the first suspicion until it is well or given up."""


@command.command("ls")
@click.option("-a", "--all", "ended", is_flag=True, help="Also those that have ended well.")
@click.option("-o", "--output", type=_FORMS, help="Output format.")
@connected
async def ls(session: Session, ended: bool, output: str | None) -> None:
    """List repairs: those under way, and machines in quarantine."""
    shown = [repair for repair in await _all(session) if ended or repair.matters]
    if output in ("json", "yaml", "name"):
        items = [_whole(repair.obj) for repair in shown]
        terminal.emit({"apiVersion": "v1", "kind": "List", "items": items}, output)
        return
    if not shown:
        terminal.note("no machine is in repair" + ("" if ended else " (those that ended well: --all)"))
        return
    now = datetime.now(UTC)
    header = ["REPAIR", "MACHINE", "PHASE", "RULE", "TRIED", "MOVED", "TOLD", "AGE"]
    wide = output == "wide"
    rows = [[*row(repair, now), *([repair.status.message] if wide else ())] for repair in shown]
    click.echo(terminal.columns([*header, *(["MESSAGE"] if wide else ())], rows))


def row(repair: Repair, now: datetime) -> list[str]:
    """A repair in a line."""
    status = repair.status
    gone = [move for move in status.moved if move.left]
    there = sum(bool(move.to_machine) for move in gone)
    return [
        repair.name,
        repair.machine,
        status.phase,
        status.rule or "-",
        ",".join(one.remedy for one in status.attempts if one.state != "Skipped") or "-",
        f"{there}/{len(gone)}" if gone else "-",
        ",".join(sorted({one.target for one in status.told if one.outcome == "Sent"})) or "-",
        human_duration((now - parse_rfc3339(repair.created)).total_seconds()),
    ]


@command.command("show")
@click.option("-o", "--output", type=click.Choice(["json", "yaml", "name"]), help="Output format.")
@click.argument("name", metavar="REPAIR|MACHINE")
@connected
async def show(session: Session, output: str | None, name: str) -> None:
    """Tell a repair's story; of a machine, that of its latest."""
    repair = await _find(session, name)
    if output:
        terminal.emit(_whole(repair.obj), output)
        return
    click.echo("\n".join(story(repair)))


def story(repair: Repair) -> Iterator[str]:
    """A repair for a person."""
    status = repair.status
    yield f"repair {repair.name} of machine {repair.machine}: {status.phase}"
    yield f"  {status.message}"
    yield from _part("seen", seen_lines(status))
    yield from _part("life", [f"{one.at}  {one.phase:<10} {one.message}".rstrip() for one in status.transitions])
    yield from _part("tried", [attempt_line(one) for one in status.attempts])
    rows = [[f"{move.namespace}/{move.pod}", move.owner or "-", fate(move)] for move in status.moved]
    if rows:
        yield from _part("pods", terminal.columns(["POD", "OF", "NOW"], rows).splitlines())
    told = {(one.notice, one.target): one for one in status.told}
    for notice in status.notices:
        said = [one for (reason, _), one in told.items() if reason == notice.reason]
        lines = [f"{one.at}  {one.target}  {one.outcome}{f': {one.message}' if one.message else ''}" for one in said]
        yield from _part(f"told: {notice.reason}", lines or ["nobody: see `corral repair rules --help`"])


def _part(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)


@command.command("approve")
@click.argument("name", metavar="REPAIR|MACHINE")
@connected
async def approve(session: Session, name: str) -> None:
    """Let a repair do what waits for a person; or let a machine back from quarantine."""
    repair = await _find(session, name)
    status = repair.status
    waits = bool(status.attempts) and status.attempts[-1].state == "Waiting" and not repair.is_final
    held = status.phase == "Retired" and status.quarantine and not repair.released
    if not waits and not held:
        raise CorralError(
            f"cannot approve {repair.name}: nothing in it waits for a person's word ({status.phase}: {status.message})",
            f"see what it does: corral repair show {repair.name}",
        )
    await session.client.patch(
        REPAIRS, repair.name, {"spec": {"released" if held else "approved": True}}, kind=MERGE_PATCH
    )
    click.echo(repair.name)


@command.command("rules")
@click.option("-f", "file", type=click.Path(path_type=Path, allow_dash=True), help="Follow the rules in FILE.")
@click.option("--reset", is_flag=True, help="Follow Corral's own rules again.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="Output format.")
@connected
async def rules(session: Session, file: Path | None, reset: bool, output: str | None) -> None:
    """Print the rules that count, as YAML that -f takes; or set them.

    People are told by addresses in the Secret repair-notifications of namespace kube-system: each key is a name, each
    value an https webhook or an address of apprise (mailto://, slack:// ...; pip install 'corral[notify]').
    """
    if file is not None and reset:
        raise CorralError("cannot both set and reset the rules", "give one of -f and --reset")
    if reset:
        await _reset(session)
        return
    if file is not None:
        await _set(session, file)
        return
    try:
        obj = await session.client.get(REPAIR_POLICIES, POLICY)
    except StatusError as error:
        if error.code != 404:
            raise
        if output is None:
            click.echo(default_text(), nl=False)
            return
        obj = yaml.load(default_text(), yaml.CSafeLoader)
    shown = {field: obj[field] for field in ("apiVersion", "kind", "metadata", "spec") if field in obj}
    shown["metadata"] = {"name": obj["metadata"]["name"]}
    terminal.emit(shown, output or "yaml")


async def _reset(session: Session) -> None:
    try:
        await session.client.delete(REPAIR_POLICIES, POLICY)
    except StatusError as error:
        if error.code != 404:
            raise
    click.echo(f"repairpolicy/{POLICY}")


async def _set(session: Session, file: Path) -> None:
    policy = read_rules(file.name, click.open_file(str(file)).read())
    try:
        present = await session.client.get(REPAIR_POLICIES, POLICY)
    except StatusError as error:
        if error.code != 404:
            raise
        await session.client.create(REPAIR_POLICIES, policy)
    else:
        await session.client.update(REPAIR_POLICIES, {**present, "spec": policy["spec"]})
    click.echo(f"repairpolicy/{POLICY}")


def read_rules(name: str, text: str) -> Obj:
    """The policy in a file.

    Raises:
        CorralError: it is none, or cannot be followed; the field is named.
    """
    remedy = "print rules that can be followed: corral repair rules"
    try:
        policy = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise CorralError(f"cannot read {name}: {' '.join(str(error).split())}", remedy) from error
    if not isinstance(policy, dict) or policy.get("kind") != "RepairPolicy" or not isinstance(policy.get("spec"), dict):
        raise CorralError(f"cannot follow {name}: it is no RepairPolicy with a spec", remedy)
    if (policy.get("metadata") or {}).get("name") != POLICY:
        raise CorralError(f"cannot follow {name}: metadata.name must be {POLICY!r}", remedy)
    try:
        read_policy(policy)
    except BadPolicy as error:
        raise CorralError(f"cannot follow {name}: {error}", remedy) from error
    return {"apiVersion": REPAIR_POLICIES.api_version, "kind": "RepairPolicy", **policy}


async def _all(session: Session) -> list[Repair]:
    try:
        return [read(obj) for obj in (await session.client.list(REPAIRS))["items"]]
    except msgspec.ValidationError as error:
        raise CorralError(f"cannot read a repair: {error}", "see them raw: kubectl get repairs -o yaml") from error


async def _find(session: Session, name: str) -> Repair:
    """The repair of that name, or the latest of the machine of that name."""
    repairs = await _all(session)
    exact = [one for one in repairs if one.name == name]
    ofs = sorted((one for one in repairs if one.machine == name), key=lambda one: (not one.is_final, one.created))
    found = exact or ofs
    if not found:
        raise CorralError(f"cannot find a repair or a machine's repair {name}", "list them: corral repair ls --all")
    return found[-1]


def _whole(obj: Obj) -> Obj:
    return {"apiVersion": REPAIRS.api_version, "kind": REPAIRS.kind, **obj}

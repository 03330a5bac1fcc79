"""`corral queue`: queues with their quota, who waits in which order, why, and about how long."""

from datetime import UTC, datetime
from typing import Any

import click

from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import Session, connected
from corral.kinds.bundled.queues import GROUP_LABEL, queue_name
from corral.kinds.owners import owners_of
from corral.kinds.resources import CLUSTER_QUEUES, JOBS, LOCAL_QUEUES, PODS, WORKLOADS
from corral.kinds.status import StatusError
from corral.kinds.tables import human_duration
from corral.kinds.types import Obj

_GROUP = "/apis/corral.dev/v1"
_QUEUES = {"localqueue": LOCAL_QUEUES, "clusterqueue": CLUSTER_QUEUES}
_WORK = {"job": JOBS, "pod": PODS, "workload": WORKLOADS}
_ALIASES = {"lq": "localqueue", "queue": "localqueue", "cq": "clusterqueue", "wl": "workload"}
_FORMS = click.Choice(["wide", "json", "yaml", "name"])


@click.command("queue", short_help="Show queues: their quota, who waits, and about how long.")
@click.option("-A", "--all-namespaces", is_flag=True, help="The queues of all namespaces.")
@click.option("-o", "--output", type=_FORMS, help="Output format.")
@click.argument("name", required=False, default="")
@connected
async def command(session: Session, all_namespaces: bool, output: str | None, name: str) -> int:
    """List the queues, or explain NAME: a queue, a job, a pod or a workload (also kind/name).

    The time until something's turn is an estimate from what the queue was seen to finish; it is `unknown` until three
    workloads have ended there.
    """
    if not name:
        return await _list(session, all_namespaces, output)
    kind, found = await _find(session, name)
    if kind in _QUEUES:
        answer = await _pending(session, kind, found)
        if output in ("json", "yaml"):
            terminal.emit(answer, output)
        elif output == "name":
            click.echo("\n".join(f"workload/{item['workload']}" for item in answer["items"]))
        else:
            click.echo("\n".join(queue_words(answer, wide=output == "wide", now=datetime.now(UTC))))
        return 0
    return await _explain(session, kind, found, output)


async def _list(session: Session, everywhere: bool, output: str | None) -> int:
    listing = await session.client.list(LOCAL_QUEUES, "" if everywhere else session.namespace)
    if output == "name":
        terminal.emit({"items": [{"kind": "LocalQueue", **item} for item in listing["items"]]}, output)
        return 0
    answers = [await _pending(session, "localqueue", item) for item in listing["items"]]
    if output in ("json", "yaml"):
        terminal.emit({"kind": "List", "items": answers}, output)
        return 0
    if not answers:
        terminal.note(f"there is no queue in {'any namespace' if everywhere else f'namespace {session.namespace}'}")
        return 0
    click.echo(table(answers, everywhere=everywhere, wide=output == "wide"))
    return 0


async def _find(session: Session, name: str) -> tuple[str, Obj]:
    """The kind and the object that NAME means.

    Raises:
        CorralError: there is none.
    """
    word, slash, rest = name.partition("/")
    kinds = {**_QUEUES, **_WORK}
    wanted = list(kinds)
    if slash:
        kind = _ALIASES.get(word.lower(), word.lower().removesuffix("s"))
        if kind not in kinds:
            raise CorralError(f"cannot look for {name}: {word!r} is nothing that waits", f"use {', '.join(kinds)}")
        wanted, name = [kind], rest
    for kind in wanted:
        resource = kinds[kind]
        try:
            return kind, await session.client.get(resource, name, session.namespace if resource.namespaced else "")
        except StatusError as error:
            # Who works in a namespace need not be allowed to see what belongs to the cell.
            if error.reason not in ("NotFound", "Forbidden") or (slash and error.reason == "Forbidden"):
                raise
    raise CorralError(
        f"cannot find a queue, job, pod or workload {name} in namespace {session.namespace}",
        "`corral queue` lists the queues",
    )


async def _pending(session: Session, kind: str, queue: Obj) -> Obj:
    metadata = queue["metadata"]
    space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return await session.client.raw(f"{_GROUP}{space}/{kind}s/{metadata['name']}/pending")


async def _explain(session: Session, kind: str, obj: Obj, output: str | None) -> int:
    """One job, pod or workload: where it stands."""
    metadata = obj["metadata"]
    title = f"{kind}/{metadata['name']}"
    name = str(obj["spec"].get("queueName") or "") if kind == "workload" else queue_name(obj)
    if not name:
        raise CorralError(
            f"cannot say where {title} stands: it is in no queue", "give it to one with `corral run --queue NAME`"
        )
    queue = {"metadata": {"name": name, "namespace": metadata["namespace"]}}
    try:
        answer = await _pending(session, "localqueue", queue)
    except StatusError as error:
        if error.reason != "NotFound":
            raise
        remedy = f"create it, or see the ones there are with `corral queue -n {metadata['namespace']}`"
        raise CorralError(f"cannot place {title}: there is no LocalQueue {name}", remedy) from error
    names = await _workload_names(session, kind, obj)
    item = next((one for one in (*answer["items"], *answer["admitted"]) if one["workload"] in names), None)
    if output in ("json", "yaml"):
        terminal.emit(item or {}, output)
    elif output == "name":
        click.echo("\n".join(f"workload/{one}" for one in sorted(names)))
    else:
        click.echo("\n".join(item_words(title, answer, item, now=datetime.now(UTC))))
    return 0


async def _workload_names(session: Session, kind: str, obj: Obj) -> set[str]:
    metadata = obj["metadata"]
    if kind == "workload":
        return {metadata["name"]}
    group = (metadata.get("labels") or {}).get(GROUP_LABEL)
    if kind == "pod" and group:
        return {group}
    workloads = (await session.client.list(WORKLOADS, metadata["namespace"]))["items"]
    uid = metadata["uid"]
    return {one["metadata"]["name"] for one in workloads if any(owner["uid"] == uid for owner in owners_of(one))}


def table(answers: list[Obj], *, everywhere: bool, wide: bool) -> str:
    """The queues, one a line."""
    header = ["QUEUE", "CLUSTERQUEUE", "USED/QUOTA", "BORROWED", "ADMITTED", "PENDING", "NEXT IN"]
    header = (["NAMESPACE"] if everywhere else []) + header + (["STRATEGY", "COHORT", "SHARE", "STATE"] if wide else [])
    rows = []
    for answer in answers:
        used = ", ".join(f"{one['resource']} {one['used']}/{one['quota']}" for one in _summed(answer))
        lent = ", ".join(f"{one['resource']} {one['borrowed']}" for one in _summed(answer) if one["borrowed"] != "0")
        first = answer["items"][0] if answer["items"] else None
        row = [
            answer["name"],
            answer["clusterQueue"],
            used or "-",
            lent or "-",
            str(len(answer["admitted"])),
            str(len(answer["items"])),
            eta(first) if first is not None else "-",
        ]
        row = ([answer["namespace"]] if everywhere else []) + row
        if wide:
            state = "inactive" if answer["inactive"] else "active"
            row += [answer.get("strategy", "-"), answer.get("cohort") or "-", _share(answer), state]
        rows.append(row)
    return terminal.columns(header, rows)


def _summed(answer: Obj) -> list[Obj]:
    """One entry a resource if there is but one flavor of it, else one a flavor."""
    entries = answer["resources"]
    flavors = {entry["flavor"] for entry in entries}
    if len(flavors) <= 1:
        return list(entries)
    return [{**entry, "resource": f"{entry['flavor']}:{entry['resource']}"} for entry in entries]


def _share(answer: Obj) -> str:
    share = answer.get("share")
    return "-" if not answer.get("cohort") or share is None else f"{share:.2f}"


def eta(item: Obj) -> str:
    """How long until something's turn, in a word or two."""
    if item["never"]:
        return "never"
    return "unknown" if item["eta"] is None else f"~{human_duration(item['eta'])}"


def queue_words(answer: Obj, *, wide: bool, now: datetime) -> list[str]:
    """A queue for a person."""
    where = f" in namespace {answer['namespace']}" if "namespace" in answer else ""
    behind = f", ClusterQueue {answer['clusterQueue']}" if answer["kind"] == "LocalQueue" else ""
    kind = f", {answer['strategy']}" if answer.get("strategy") else ""
    cohort = f", cohort {answer['cohort']}" if answer.get("cohort") else ""
    found = [f"{answer['kind'].lower()}/{answer['name']}{where}{behind}{kind}{cohort}"]
    if answer["inactive"]:
        found.append(f"  it admits nothing: {answer['inactive']}")
    header = ["FLAVOR", "RESOURCE", "QUOTA", "USED", "BORROWED", "FREE"]
    rows = [[str(one[name.lower()]) for name in header] for one in answer["resources"]]
    found += [terminal.columns(header, rows)] if rows else []
    found += [seen(answer["throughput"])] if answer["throughput"] else []
    if answer["admitted"]:
        rows = [_running(one, now) for one in answer["admitted"]]
        found += ["", terminal.columns(["ADMITTED", "PRIORITY", "HOLDS", "SINCE", "STATE"], rows)]
    if answer["items"]:
        rows = [_waiting(one, now, wide) for one in answer["items"]]
        header = ["POSITION", "WAITING", "PRIORITY", "WAITS", "TURN IN", *(["WORKLOAD"] if wide else []), "WHY"]
        found += ["", terminal.columns(header, rows)]
    return found


def _running(item: Obj, now: datetime) -> list[str]:
    holds = ", ".join(f"{one['amount']} {one['resource']} of {one['flavor']}" for one in item["usage"])
    since = human_duration((now - parse_rfc3339(item["since"])).total_seconds()) if item["since"] else "-"
    return [_title(item), str(item["priority"]), holds or "-", since, "stops" if item["stopping"] else "runs"]


def _waiting(item: Obj, now: datetime, wide: bool) -> list[str]:
    waits = human_duration((now - parse_rfc3339(item["created"])).total_seconds())
    position = "-" if item["position"] is None else str(item["position"] + 1)
    row = [position, _title(item), str(item["priority"]), waits, eta(item)]
    return [*row, *([item["workload"]] if wide else []), item["why"]]


def _title(item: Obj) -> str:
    return str(item["owner"])


def seen(throughput: dict[str, Any]) -> str:
    """What the estimates rest on."""
    if not throughput["known"]:
        return f"estimates need 3 workloads that ended here, {throughput['finished']} did"
    return f"estimates rest on the last {throughput['finished']} that ended, in {human_duration(throughput['seconds'])}"


def item_words(title: str, answer: Obj, item: Obj | None, *, now: datetime) -> list[str]:
    """Where one job, pod or workload stands, for a person."""
    where = f"localqueue/{answer['name']} (ClusterQueue {answer['clusterQueue']})"
    if item is None:
        return [f"{title} does not wait in {where}: it has ended, or is about to enter"]
    if "since" in item:
        holds = _running(item, now)
        stops = "; it is being stopped for another" if item["stopping"] else ""
        return [f"{title} was admitted by {where} {holds[3]} ago{stops}", f"  holds {holds[2]}"]
    if item["position"] is None:
        return [f"{title} has no place in {where}", f"  {item['why']}"]
    found = [f"{title} waits in {where}: position {item['position'] + 1}", f"  {item['why']}"]
    ahead = item["ahead"]
    names = ", ".join(ahead[-5:]) + (f" and {len(ahead) - 5} before them" if len(ahead) > 5 else "")
    elsewhere = f"{item['aheadElsewhere']} of other namespaces" if item["aheadElsewhere"] else ""
    found.append(f"  ahead: {' and '.join(part for part in (names, elsewhere) if part) or 'nobody'}")
    return [*found, f"  turn in: {eta(item)} ({seen(answer['throughput'])})"]

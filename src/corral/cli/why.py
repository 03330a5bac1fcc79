"""`corral why NAME`: in plain words, why something does not run, machine by machine, and what would change it."""

import json
from collections.abc import Iterator
from typing import Any

import click

from corral.cli import targets, terminal
from corral.cli.session import Session, connected
from corral.kinds import conditions
from corral.kinds.bundled.queues import is_gated, owned_by, queue_name
from corral.kinds.resources import EVENTS, JOBS, NODES, PODS, WORKLOADS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


@click.command("why", short_help="Explain why something does not run, and what would change it.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Output format.")
@click.argument("name")
@connected
async def command(session: Session, output: str | None, name: str) -> None:
    """Explain NAME: a program that `corral run` started, a pod, or kind/name."""
    target = await targets.find(session, name)
    pods = await targets.pods(session, target)
    kind = target.resource.kind
    report: dict[str, Any] = {"object": await _queued(session, target) or _told(target.obj, kind), "pods": []}
    for pod in pods:
        entry = {"name": pod["metadata"]["name"], "says": [*container_words(pod), *await _machine(session, pod)]}
        if not pod["spec"].get("nodeName"):
            entry["placement"] = await _placement(session, pod)
        report["pods"].append(entry)
    report["events"] = await _events(session, [target.obj, *pods])
    if output == "json":
        click.echo(json.dumps(report, indent=4))
        return
    click.echo("\n".join(words(report, target)))


async def _queued(session: Session, target: targets.Target) -> list[str]:
    """What the queue says of a Job or pod that waits in one."""
    obj, uid = target.obj, target.obj["metadata"]["uid"]
    waits = obj["spec"].get("suspend") if target.resource is JOBS else is_gated(obj)
    if not queue_name(obj) or not waits:
        return []
    workloads = (await session.client.list(WORKLOADS, target.namespace))["items"]
    found = next((one for one in workloads if owned_by(one, uid)), None)
    stopping = found is not None and conditions.is_true(found, "QuotaReserved")
    said = conditions.get(found, "Evicted" if stopping else "QuotaReserved") if found is not None else None
    name = f"{target.resource.kind.lower()}/{target.name}"
    head = f"it waits in the queue {queue_name(obj)}"
    return [f"{head}: {said['message']}" if said else head, f"see its turn: corral queue {name}"]


async def _machine(session: Session, pod: Obj) -> list[str]:
    """What the machine of a pod says is wrong with itself, as far as whoever asks may see machines."""
    name = pod["spec"].get("nodeName")
    if not name:
        return []
    try:
        node = await session.client.get(NODES, name)
    except StatusError as error:
        return [f"its machine {name} is no longer in the cell"] if error.reason == "NotFound" else []
    return [
        f"its machine {name} says {one['type']}={one['status']}: {one.get('message', '')}".rstrip(": ")
        for one in conditions.node_troubles(node)
    ]


async def _placement(session: Session, pod: Obj) -> Obj:
    path = f"/apis/corral.dev/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/why"
    return await session.client.raw(path)


def _told(obj: Obj, kind: str) -> list[str]:
    """What the conditions of the object itself say that keeps it from running."""
    said = []
    if kind == "Job" and obj["spec"].get("suspend"):
        said.append('it is suspended; resume it: kubectl patch job NAME -p \'{"spec":{"suspend":false}}\'')
    if obj["spec"].get("paused"):
        said.append("its rollout is paused; resume it: kubectl rollout resume deployment NAME")
    if obj["spec"].get("replicas") == 0:
        said.append("it wants 0 replicas; scale it up: kubectl scale --replicas=1")
    for condition in obj.get("status", {}).get("conditions") or ():
        bad = condition["type"] in ("Failed", "ReplicaFailure", "FailureTarget") and condition["status"] == "True"
        bad = bad or (condition["type"] in ("Progressing", "Available") and condition["status"] == "False")
        if bad:
            said.append(f"{condition['type']}: {condition.get('reason', '')}: {condition.get('message', '')}")
    return [line.replace("NAME", obj["metadata"]["name"]) for line in said]


_EACH_TOLD = 12
"""Machines that get a line each."""
_REMEDIES = {
    "ErrImagePull": "check the image's name and that the machine reaches its registry, or `corral image load` it",
    "ImagePullBackOff": "check the image's name and that the machine reaches its registry, or `corral image load` it",
    "InvalidImageName": "write the image as [HOST/]NAME[:TAG]",
    "CrashLoopBackOff": "see its output with `corral logs --previous`",
    "CreateContainerConfigError": "create the ConfigMap, Secret or key that it names",
    "OOMKilled": "give it more memory (resources.limits.memory, or `corral run --memory`)",
}


def container_words(pod: Obj) -> Iterator[str]:
    """What a pod's containers say, one sentence each."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        yield f"the pod failed: {status['reason']}: {status.get('message', '')}".rstrip(": ")
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        name, state = container["name"], container.get("state", {})
        if "waiting" in state:
            waiting = state["waiting"]
            yield f"container {name} waits: {_sentence(waiting)}"
            ended = container.get("lastState", {}).get("terminated")
            if ended:
                yield f"container {name} ended before: {_sentence(ended)}"
        elif "terminated" in state:
            yield f"container {name} ended: {_sentence(state['terminated'])}"
        elif "running" in state:
            ready = "" if container.get("ready") else ", but is not ready (see its readiness probe)"
            yield f"container {name} runs since {state['running'].get('startedAt', '?')}{ready}"


def _sentence(state: Obj) -> str:
    reason = state.get("reason", "")
    parts = [reason]
    if "exitCode" in state:
        parts.append(f"exit code {state['exitCode']}")
    if state.get("message"):
        parts.append(state["message"])
    text = ", ".join(part for part in parts if part)
    return f"{text}; {_REMEDIES[reason]}" if reason in _REMEDIES else text


async def _events(session: Session, objects: list[Obj]) -> list[str]:
    uids = {obj["metadata"]["uid"] for obj in objects}
    listing = await session.client.list(EVENTS, session.namespace, field_selector="type=Warning")
    events = [event for event in listing["items"] if event.get("involvedObject", {}).get("uid") in uids]
    events.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return [f"{event['reason']}: {event.get('message', '')}" for event in events[-5:]]


def words(report: dict[str, Any], target: targets.Target) -> Iterator[str]:
    """The report for a person."""
    yield f"{target.resource.kind.lower()}/{target.name} in namespace {target.namespace}"
    for line in report["object"]:
        yield f"  {line}"
    if not report["pods"]:
        made = "its controller has not made one yet" if target.resource is not PODS else ""
        ended = target.resource is JOBS and bool(target.obj.get("status", {}).get("completionTime"))
        yield "  it has ended" if ended else f"  it has no pod: {made}"
    for pod in report["pods"]:
        yield f"pod/{pod['name']}"
        for line in pod["says"]:
            yield f"  {line}"
        if "placement" in pod:
            yield from (f"  {line}" for line in placement_words(pod["placement"]))
    if report["events"]:
        yield "warnings"
        yield from (f"  {line}" for line in report["events"])


def placement_words(placement: Obj) -> Iterator[str]:
    """Why no machine takes the pod."""
    machines = placement.get("machines") or []
    total = placement.get("total") or len(machines)
    fitting = [machine["name"] for machine in machines if machine["fits"]]
    if not machines:
        yield "it waits: the cell has no machine; add one"
    elif fitting:
        yield f"it waits, but {', '.join(fitting[:3])} would take it: {placement['message']}"
    else:
        yield f"it waits: none of {total} machine{'s' * (total != 1)} takes it"
        yield from terminal.columns(["MACHINE", "WHY NOT"], _rows(machines)).splitlines()
        if total > len(machines):
            yield f"and {total - len(machines)} more that are further from taking it"
        if placement.get("group"):
            yield f"it starts with others: {placement['group']}"
    yield from advice(placement)


def _rows(machines: list[Obj]) -> list[list[str]]:
    """A row for each machine or, when there are many, for each set of reasons."""
    rows = [[machine["name"], "; ".join(machine["reasons"])] for machine in machines]
    if len(rows) <= _EACH_TOLD:
        return rows
    alike: dict[str, list[str]] = {}
    for name, reasons in rows:
        alike.setdefault(reasons, []).append(name)
    return [[terminal.some(names, 3), reasons] for reasons, names in alike.items()]


def advice(story: Obj) -> Iterator[str]:
    """What the scheduler says about the closest machine, likely mistakes, and what would help."""
    closest = story.get("closest")
    if closest:
        missing = ", ".join(f"{amount} {resource}" for resource, amount in (closest.get("missing") or {}).items())
        yield f"closest: {closest['name']}" + (f", where {missing} is missing" if missing else "")
    for hint in story.get("hints") or ():
        yield f"hint: {hint}"
    for change in story.get("would_help") or ():
        yield f"would help: {change}"

"""What a DaemonSet needs next. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.base.clock import parse_rfc3339
from corral.controllers.pods.history import HASH_LABEL
from corral.controllers.pods.pods import available_in, is_deleting
from corral.controllers.pods.shares import resolve
from corral.kinds.daemons import belongs, pinned, pinned_to, tolerations
from corral.kinds.podspec import is_ready, is_terminal, phase
from corral.kinds.podtemplate import from_template
from corral.kinds.types import Obj

RETRY_SECONDS = 10.0
"""How old a daemon that ended must be before it is replaced, so that one that cannot run does not spin."""
BURST = 250
"""Pods created or deleted in one step at most (Kubernetes' BurstReplicas)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to `delete`, machines to `create` a pod on, and the status."""

    status: Obj
    create: tuple[str, ...] = ()
    delete: tuple[Obj, ...] = ()
    look_again: float | None = None


def plan(daemon_set: Obj, pods: Sequence[Obj], nodes: Sequence[Obj], current: str, now: datetime) -> Plan:
    """The next step; `current` is the hash that pods of the present template carry."""
    spec = daemon_set["spec"]
    there: dict[str, list[Obj]] = defaultdict(list)
    for pod in pods:
        there[pinned_to(pod)].append(pod)
    create: list[str] = []
    delete: list[Obj] = []
    wanted: list[str] = []
    misplaced = 0
    for node in nodes:
        name = node["metadata"]["name"]
        start, stay = belongs(spec["template"]["spec"], node)
        held = there.pop(name, [])
        wanted += [name] if start else []
        misplaced += bool(held) and not start
        more, fewer = _on_machine(name, held, start=start, stay=stay)
        create += more
        delete += [pod for pod in fewer if not is_terminal(pod) or not stay or _rest(pod, now) <= 0]
    # Pods of machines that are gone are the pod garbage collector's.
    delete += [pod for pod in there.get("", ()) if is_terminal(pod) and not is_deleting(pod)]
    status = _status(daemon_set, pods, wanted, misplaced, current, now)
    if is_deleting(daemon_set):
        return Plan(status)
    if not create and not delete:
        delete = _outdated(daemon_set, pods, wanted, current, now)
    seconds = int(spec.get("minReadySeconds") or 0)
    waits = [wait for pod in pods if (wait := available_in(pod, seconds, now))]
    waits += [_rest(pod, now) for pod in pods if is_terminal(pod) and _rest(pod, now) > 0]
    return Plan(status, tuple(create[:BURST]), tuple(delete[:BURST]), min(waits, default=None))


def new_pod(daemon_set: Obj, machine: str, current: str) -> Obj:
    """The DaemonSet's pod for one machine."""
    pod = from_template(daemon_set["spec"]["template"], daemon_set)
    pod["metadata"]["labels"][HASH_LABEL] = current
    spec = pod["spec"]
    spec["tolerations"] = tolerations(spec)
    spec["affinity"] = pinned(spec.get("affinity"), machine)
    return pod


def _rest(pod: Obj, now: datetime) -> float:
    """Seconds until an ended daemon may be replaced."""
    created = pod["metadata"].get("creationTimestamp")
    return RETRY_SECONDS - (now - parse_rfc3339(created)).total_seconds() if created else 0.0


def _on_machine(name: str, held: Sequence[Obj], *, start: bool, stay: bool) -> tuple[list[str], list[Obj]]:
    living = [pod for pod in held if not is_deleting(pod)]
    if not stay:
        return [], list(living)
    ended = [pod for pod in living if is_terminal(pod)]
    running = sorted((pod for pod in living if not is_terminal(pod)), key=_age)
    if ended:
        # A daemon that ended is replaced once it is gone.
        return [], [*ended, *running[1:]]
    if not running:
        return ([name] if start and not held else []), []
    return [], running[1:]


def _outdated(daemon_set: Obj, pods: Sequence[Obj], wanted: Sequence[str], current: str, now: datetime) -> list[Obj]:
    """Pods of former templates to replace now, at most `maxUnavailable` machines being without a daemon."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return []
    limit = max(1, resolve((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), len(wanted), up=True))
    seconds = int(daemon_set["spec"].get("minReadySeconds") or 0)
    available = {pinned_to(pod) for pod in pods if not is_deleting(pod) and available_in(pod, seconds, now) == 0.0}
    old = [pod for pod in pods if not is_deleting(pod) and pod["metadata"]["labels"].get(HASH_LABEL) != current]
    broken = [pod for pod in old if pinned_to(pod) not in available]
    room = limit - sum(name not in available for name in wanted)
    working = sorted((pod for pod in old if pinned_to(pod) in available), key=_age)
    return [*broken, *working[: max(0, room)]]


def _status(
    daemon_set: Obj, pods: Sequence[Obj], wanted: Sequence[str], misplaced: int, current: str, now: datetime
) -> Obj:
    seconds = int(daemon_set["spec"].get("minReadySeconds") or 0)
    right = [pod for pod in pods if not is_deleting(pod) and pinned_to(pod) in set(wanted)]
    placed = {pinned_to(pod) for pod in right if phase(pod) != "Failed"}
    available = {pinned_to(pod) for pod in right if available_in(pod, seconds, now) == 0.0}
    before = daemon_set.get("status") or {}
    status: Obj = {
        "currentNumberScheduled": len(placed),
        "numberMisscheduled": misplaced,
        "desiredNumberScheduled": len(wanted),
        "numberReady": len({pinned_to(pod) for pod in right if is_ready(pod)}),
        "observedGeneration": daemon_set["metadata"].get("generation", 0),
    }
    updated = {pinned_to(pod) for pod in right if pod["metadata"]["labels"].get(HASH_LABEL) == current}
    optional = {
        "updatedNumberScheduled": len(updated),
        "numberAvailable": len(available),
        "numberUnavailable": len(wanted) - len(available),
    }
    status.update({name: count for name, count in optional.items() if count})
    if before.get("collisionCount") is not None:
        status["collisionCount"] = before["collisionCount"]
    return status


def _age(pod: Obj) -> tuple[str, str]:
    return (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"])

"""What a ReplicaSet needs next. Pure."""

from collections.abc import Callable, Collection, Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from corral.controllers.pods.pods import available_in, is_deleting
from corral.controllers.pods.rank import victims
from corral.controllers.replicasets.roll import Roll
from corral.kinds import conditions
from corral.kinds.types import Obj

BURST = 500
"""Pods deleted in one step at most, or created while there are fewer (Kubernetes' BurstReplicas).

From then on a step may double them: each step counts all pods of the ReplicaSet.
"""


@dataclass(frozen=True, slots=True)
class Census:
    """A ReplicaSet's pods, counted: it may hold thousands, and each of their changes asks anew."""

    sorts: tuple[Collection[Obj], ...]
    """Those that are neither ended nor being deleted."""
    active: int
    """How many those are."""
    labelled: int
    """With all labels of the template."""
    ready: int
    available: int
    terminating: int
    waits: float | None
    """Seconds until the next ready pod becomes available, or None."""


def census(replica_set: Obj, roll: Roll, now: datetime) -> Census:
    """Count the pods that `replica_set` holds."""
    seconds = int(replica_set["spec"].get("minReadySeconds") or 0)
    wanted = ((replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}).items()
    sorts: list[Collection[Obj]] = []
    labelled = ready = available = terminating = 0
    waits: list[float] = []
    for sort, pods in roll.items():
        if sort.ended:
            continue
        if sort.leaving:
            terminating += len(pods)
            continue
        sorts.append(pods.values())
        labelled += len(pods) if wanted <= sort.labels else 0
        if sort.ready:
            late = _waits(pods.values(), seconds, now)
            ready += len(pods)
            available += len(pods) - len(late)
            waits += late
    active = sum(len(pods) for pods in sorts)
    return Census(tuple(sorts), active, labelled, ready, available, terminating, min(waits, default=None))


def _waits(pods: Iterable[Obj], seconds: int, now: datetime) -> list[float]:
    """How long those of the ready `pods` that do not count as available yet have to wait for it."""
    return [wait for pod in pods if (wait := available_in(pod, seconds, now))] if seconds > 0 else []


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` pods to make, or pods to `delete`; never both."""

    create: int
    delete: tuple[Obj, ...]
    look_again: float | None
    """Seconds until a ready pod becomes available, or None."""


def plan(replica_set: Obj, pods: Census, now: datetime, *, crowding: Callable[[Obj], int] = lambda pod: 0) -> Plan:
    """Compare the pods that `replica_set` holds with what its spec asks for."""
    missing = desired(replica_set) - pods.active
    if is_deleting(replica_set):
        missing = 0
    delete = (
        victims(chain.from_iterable(pods.sorts), min(-missing, BURST), now, crowding=crowding) if missing < 0 else []
    )
    return Plan(min(max(missing, 0), max(BURST, pods.active)), tuple(delete), pods.waits)


def desired(replica_set: Obj) -> int:
    """`spec.replicas`; 1 if absent."""
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def status(replica_set: Obj, pods: Census, now: datetime, *, failure: tuple[str, str] | None) -> Obj:
    """The status that `pods` make; `failure` is the reason and message of a create or delete that was refused."""
    counts = {
        "replicas": pods.active,
        "fullyLabeledReplicas": pods.labelled,
        "readyReplicas": pods.ready,
        "availableReplicas": pods.available,
        "terminatingReplicas": pods.terminating,
    }
    made: Obj = {"status": {"conditions": deepcopy((replica_set.get("status") or {}).get("conditions") or [])}}
    if failure is None:
        conditions.remove(made, "ReplicaFailure")
    else:
        conditions.set_condition(made, "ReplicaFailure", "True", now=now, reason=failure[0], message=failure[1])
    result: Obj = {"replicas": counts.pop("replicas")}
    result.update({name: count for name, count in counts.items() if count})
    result["observedGeneration"] = replica_set["metadata"].get("generation", 0)
    if made["status"]["conditions"]:
        result["conditions"] = made["status"]["conditions"]
    return result

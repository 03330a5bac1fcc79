"""What a ReplicaSet needs next. Pure."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from corral.controllers.pods.pods import available_in, is_active, is_deleting, is_terminating
from corral.controllers.pods.rank import victims
from corral.kinds import conditions
from corral.kinds.podspec import is_ready
from corral.kinds.types import Obj

BURST = 500
"""Pods created or deleted in one step at most (Kubernetes' BurstReplicas)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`create` pods to make, or pods to `delete`; never both."""

    create: int
    delete: tuple[Obj, ...]
    look_again: float | None
    """Seconds until a ready pod becomes available, or None."""


def plan(
    replica_set: Obj, pods: Sequence[Obj], now: datetime, *, crowding: Callable[[Obj], int] = lambda pod: 0
) -> Plan:
    """Compare the pods that `replica_set` holds with what its spec asks for."""
    active = [pod for pod in pods if is_active(pod)]
    missing = desired(replica_set) - len(active)
    if is_deleting(replica_set):
        missing = 0
    delete = victims(active, min(-missing, BURST), now, crowding=crowding) if missing < 0 else []
    seconds = _min_ready_seconds(replica_set)
    waits = [wait for pod in active if (wait := available_in(pod, seconds, now))]
    return Plan(min(max(missing, 0), BURST), tuple(delete), min(waits, default=None))


def desired(replica_set: Obj) -> int:
    """`spec.replicas`; 1 if absent."""
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def status(replica_set: Obj, pods: Sequence[Obj], now: datetime, *, failure: tuple[str, str] | None) -> Obj:
    """The status that `pods` make; `failure` is the reason and message of a create or delete that was refused."""
    active = [pod for pod in pods if is_active(pod)]
    wanted = (replica_set["spec"]["template"].get("metadata") or {}).get("labels") or {}
    seconds = _min_ready_seconds(replica_set)
    counts = {
        "replicas": len(active),
        "fullyLabeledReplicas": sum(wanted.items() <= (pod["metadata"].get("labels") or {}).items() for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(available_in(pod, seconds, now) == 0.0 for pod in active),
        "terminatingReplicas": sum(is_terminating(pod) for pod in pods),
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


def _min_ready_seconds(replica_set: Obj) -> int:
    return int(replica_set["spec"].get("minReadySeconds") or 0)

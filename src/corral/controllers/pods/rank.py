"""Which pods to delete first. Pure.

The order is that of Kubernetes' `ActivePodsWithRanks`: the pod whose loss costs least comes first. Ages are compared on
a logarithmic scale, so that among pods of about the same age the choice does not always hit the youngest.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from corral.base.clock import parse_rfc3339
from corral.controllers.pods.pods import ready_since, restarts
from corral.kinds.podspec import is_ready, phase
from corral.kinds.types import Obj

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def victims(
    pods: Iterable[Obj], count: int, now: datetime, *, crowding: Callable[[Obj], int] = lambda pod: 0
) -> list[Obj]:
    """The `count` pods to delete first; `crowding` says how many related pods share the pod's machine."""
    return sorted(pods, key=lambda pod: _cost(pod, now, crowding(pod)))[: max(0, count)]


def _cost(pod: Obj, now: datetime, crowd: int) -> tuple[int, int, int, int, int, int, int, int, str]:
    since = ready_since(pod)
    created = pod["metadata"].get("creationTimestamp")
    return (
        1 if (pod.get("spec") or {}).get("nodeName") else 0,
        _PHASES.get(phase(pod), 2),
        1 if is_ready(pod) else 0,
        _deletion_cost(pod),
        -crowd,
        _age(now, since),
        -restarts(pod),
        _age(now, parse_rfc3339(created) if created else None),
        pod["metadata"].get("uid", ""),
    )


def _deletion_cost(pod: Obj) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST) or 0)
    except ValueError:
        return 0


def _age(now: datetime, since: datetime | None) -> int:
    """The logarithm of an age in seconds, so that older is greater; no age at all is the youngest."""
    if since is None:
        return -1
    return max(0, int((now - since).total_seconds())).bit_length()

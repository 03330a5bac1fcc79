"""When a pod must leave its machine because of the machine's taints. Pure.

A pod bears a NoExecute taint for as long as the first of its tolerations that matches says, from when the taint was
added; without one, not at all. It goes when the first of these times ends (Kubernetes' taint eviction).
"""

from datetime import datetime, timedelta

from corral.base.clock import parse_rfc3339
from corral.kinds.podspec import is_terminal
from corral.kinds.taints import read_taints, read_tolerations
from corral.kinds.types import Obj

_EXECUTES = "NoExecute"


def leaves_in(pod: Obj, node: Obj, now: datetime) -> float | None:
    """Seconds until the pod must leave `node`: 0 at once, None never.

    Args:
        now: counts as the time of a taint that does not say when it was added.
    """
    if is_terminal(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    tolerations = read_tolerations(pod.get("spec") or {})
    given = (node.get("spec") or {}).get("taints") or ()
    waits: list[float] = []
    for taint, item in zip(read_taints(node), given, strict=True):
        if taint.effect != _EXECUTES:
            continue
        bears = next((toleration for toleration in tolerations if toleration.tolerates(taint)), None)
        if bears is None:
            return 0.0
        if bears.seconds is not None:
            added = parse_rfc3339(item["timeAdded"]) if item.get("timeAdded") else now
            waits.append((added + timedelta(seconds=max(0, bears.seconds)) - now).total_seconds())
    return max(0.0, min(waits)) if waits else None

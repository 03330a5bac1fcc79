"""Small facts about pods. Pure."""

from datetime import datetime, timedelta

from corral.base.clock import parse_rfc3339
from corral.kinds import conditions
from corral.kinds.owners import CONTROLLER_INDEX as CONTROLLER_INDEX
from corral.kinds.owners import controller_index as controller_index
from corral.kinds.owners import controller_of
from corral.kinds.owners import orphan_key as orphan_key
from corral.kinds.podspec import is_ready, is_terminal, phase
from corral.kinds.types import Obj, Resource

_CLAIMED_BY = ("labels", "ownerReferences", "deletionTimestamp")


def owner_name(obj: Obj, resource: Resource) -> str | None:
    """The name of the object's controller, if that is a `resource` (any version of its group)."""
    reference = controller_of(obj)
    return name_in(reference, resource) if reference is not None else None


def name_in(reference: Obj, resource: Resource) -> str | None:
    """The name that an owner reference says, if it is one to a `resource` (any version of its group)."""
    if reference.get("kind") != resource.kind:
        return None
    group = reference.get("apiVersion", "").rpartition("/")[0]
    return reference["name"] if group == resource.group else None


def is_deleting(obj: Obj) -> bool:
    """Whether deletion has been asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_active(pod: Obj) -> bool:
    """Whether the pod runs or will run: not ended, not being deleted."""
    return not is_terminal(pod) and not is_deleting(pod)


def is_terminating(pod: Obj) -> bool:
    """Whether the pod is on its way out but has not ended yet."""
    return is_deleting(pod) and not is_terminal(pod)


def counts_alike(old: Obj, new: Obj) -> bool:
    """Whether a pod's update changes nothing that its owner counts or claims it by."""
    before, after = old["metadata"], new["metadata"]
    if any(before.get(field) != after.get(field) for field in _CLAIMED_BY):
        return False
    return phase(old) == phase(new) and conditions.get(old, "Ready") == conditions.get(new, "Ready")


def ready_since(pod: Obj) -> datetime | None:
    """When the pod became ready; None if it is not."""
    condition = conditions.get(pod, "Ready")
    if condition is None or condition.get("status") != "True" or not condition.get("lastTransitionTime"):
        return None
    return parse_rfc3339(condition["lastTransitionTime"])


def available_in(pod: Obj, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the pod counts as available: 0 if it does, None if it is not even ready."""
    if not is_ready(pod):
        return None
    since = ready_since(pod)
    if min_ready_seconds <= 0 or since is None:
        return 0.0
    return max(0.0, (since + timedelta(seconds=min_ready_seconds) - now).total_seconds())


def restarts(pod: Obj) -> int:
    """The most restarts of any container of the pod."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(status.get("restartCount") or 0) for status in statuses), default=0)

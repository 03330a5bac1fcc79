"""What a Deployment's status says. Pure.

Reasons and messages are those that `kubectl rollout status` and people look for.
"""

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Final

from corral.base.clock import parse_rfc3339, rfc3339
from corral.controllers.deployments.revisions import Revisions, wanted_replicas
from corral.controllers.deployments.sizes import bounds
from corral.kinds import conditions
from corral.kinds.types import Obj

_AVAILABLE: Final = "NewReplicaSetAvailable"
_TIMED_OUT: Final = "ProgressDeadlineExceeded"
_PAUSED: Final = "DeploymentPaused"
_RESUMED: Final = "DeploymentResumed"
_NO_DEADLINE: Final = 2**31 - 1
"""`progressDeadlineSeconds` at its greatest means none."""


def status(deployment: Obj, revisions: Revisions, now: datetime) -> Obj:
    """The status after looking at all ReplicaSets."""
    made = _counts(deployment, revisions)
    carrier: Obj = {"status": {"conditions": deepcopy((deployment.get("status") or {}).get("conditions") or [])}}
    _set_available(carrier, deployment, made, now)
    _set_progressing(carrier, deployment, revisions, made, now)
    _copy_failure(carrier, revisions, now)
    if carrier["status"]["conditions"]:
        made["conditions"] = carrier["status"]["conditions"]
    return made


def is_complete(deployment: Obj, status: Obj) -> bool:
    """Whether every pod is of the current template and available, and none is left over."""
    replicas = wanted_replicas(deployment)
    fields = ("replicas", "updatedReplicas", "availableReplicas")
    return all(status.get(field, 0) == replicas for field in fields)


def deadline_in(deployment: Obj, status: Obj, now: datetime) -> float | None:
    """Seconds until the rollout counts as stuck; None if it cannot."""
    seconds = _deadline(deployment)
    progressing = conditions.get({"status": status}, "Progressing")
    if seconds is None or progressing is None or deployment["spec"].get("paused"):
        return None
    if progressing.get("reason") in (_AVAILABLE, _TIMED_OUT) or is_complete(deployment, status):
        return None
    updated = parse_rfc3339(progressing.get("lastUpdateTime") or rfc3339(now))
    return max(0.0, (updated + timedelta(seconds=seconds) - now).total_seconds()) + 1.0


def _counts(deployment: Obj, revisions: Revisions) -> Obj:
    def total(field: str) -> int:
        return sum(int((found.get("status") or {}).get(field) or 0) for found in revisions.all)

    replicas, available = total("replicas"), total("availableReplicas")
    updated = int((revisions.new.get("status") or {}).get("replicas") or 0) if revisions.new is not None else 0
    counts = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, replicas - available),
        "terminatingReplicas": total("terminatingReplicas"),
    }
    made: Obj = {name: count for name, count in counts.items() if count}
    made["observedGeneration"] = deployment["metadata"].get("generation", 0)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    if collisions is not None:
        made["collisionCount"] = collisions
    return made


def _set(carrier: Obj, type_: str, value: str, reason: str, message: str, now: datetime) -> None:
    """As Kubernetes' SetDeploymentCondition: nothing moves while status and reason stay the same."""
    present = conditions.get(carrier, type_)
    if present is not None and present.get("status") == value and present.get("reason") == reason:
        return
    conditions.set_condition(
        carrier, type_, value, now=now, reason=reason, message=message, lastUpdateTime=rfc3339(now)
    )


def _set_available(carrier: Obj, deployment: Obj, made: Obj, now: datetime) -> None:
    if made.get("availableReplicas", 0) >= wanted_replicas(deployment) - bounds(deployment)[1]:
        text = "Deployment has minimum availability."
        _set(carrier, "Available", "True", "MinimumReplicasAvailable", text, now)
    else:
        text = "Deployment does not have minimum availability."
        _set(carrier, "Available", "False", "MinimumReplicasUnavailable", text, now)


def _set_progressing(carrier: Obj, deployment: Obj, revisions: Revisions, made: Obj, now: datetime) -> None:
    seconds = _deadline(deployment)
    if seconds is None:
        conditions.remove(carrier, "Progressing")
        return
    present = conditions.get(carrier, "Progressing")
    reason = present.get("reason") if present is not None else None
    if reason == _TIMED_OUT and not is_complete(deployment, made) and not _moved(deployment, made):
        return
    if deployment["spec"].get("paused"):
        _set(carrier, "Progressing", "Unknown", _PAUSED, "Deployment is paused", now)
        return
    if reason == _PAUSED:
        _set(carrier, "Progressing", "Unknown", _RESUMED, "Deployment is resumed", now)
        return
    settled = reason == _AVAILABLE and made.get("replicas", 0) == made.get("updatedReplicas", 0)
    if settled or revisions.new is None:
        return
    subject = f'ReplicaSet "{revisions.new["metadata"]["name"]}"'
    if is_complete(deployment, made):
        _set(carrier, "Progressing", "True", _AVAILABLE, f"{subject} has successfully progressed.", now)
    elif present is None:
        text = f'Created new replica set "{revisions.new["metadata"]["name"]}"'
        _set(carrier, "Progressing", "True", "NewReplicaSetCreated", text, now)
    elif _moved(deployment, made) or reason == _AVAILABLE:
        text = f"{subject} is progressing."
        extra = {"lastUpdateTime": rfc3339(now)}
        conditions.set_condition(
            carrier, "Progressing", "True", now=now, reason="ReplicaSetUpdated", message=text, **extra
        )
    elif present is not None and _is_overdue(present, seconds, now):
        _set(carrier, "Progressing", "False", _TIMED_OUT, f"{subject} has timed out progressing.", now)


def _moved(deployment: Obj, made: Obj) -> bool:
    """Whether more pods are new, ready or available, or fewer are old, than the last status said."""
    before = deployment.get("status") or {}

    def outdated(counts: Obj) -> int:
        return int(counts.get("replicas", 0)) - int(counts.get("updatedReplicas", 0))

    more = any(
        made.get(field, 0) > before.get(field, 0) for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return more or outdated(made) < outdated(before)


def _is_overdue(progressing: Obj, seconds: int, now: datetime) -> bool:
    updated: str = progressing.get("lastUpdateTime") or rfc3339(now)
    return parse_rfc3339(updated) + timedelta(seconds=seconds) < now


def _deadline(deployment: Obj) -> int | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or int(seconds) >= _NO_DEADLINE else int(seconds)


def _copy_failure(carrier: Obj, revisions: Revisions, now: datetime) -> None:
    for found in revisions.all[::-1]:
        failure = conditions.get(found, "ReplicaFailure")
        if failure is not None and failure.get("status") == "True":
            reason, message = failure.get("reason", ""), failure.get("message", "")
            _set(carrier, "ReplicaFailure", "True", reason, message, now)
            return
    conditions.remove(carrier, "ReplicaFailure")

"""Which pods to clear away, and why. Pure. The rules are those of Kubernetes' pod garbage collector."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from corral.controllers.pods.pods import is_deleting
from corral.kinds import conditions
from corral.kinds.podspec import is_terminal
from corral.kinds.types import Obj

QUARANTINE = 40.0
"""Seconds that a machine must be gone before its pods are given up (Kubernetes' quarantineTime)."""
TERMINATED_THRESHOLD = 12_500
"""Ended pods that are kept (kube-controller-manager's --terminated-pod-gc-threshold)."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Delete the pod at once; `why`, if any, is first written into its status as a failure."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in `seconds`."""

    seconds: float


def judge(pod: Obj, *, gone_for: float | None) -> Clear | Wait | None:
    """What to do about `pod`; `gone_for`: seconds since its machine was seen missing, None if it is there."""
    machine = (pod.get("spec") or {}).get("nodeName")
    if machine and gone_for is not None:
        if gone_for < QUARANTINE:
            return Wait(QUARANTINE - gone_for)
        return Clear("" if is_terminal(pod) else "PodGC: node no longer exists")
    if not machine and is_deleting(pod):
        return Clear("" if is_terminal(pod) else "PodGC: pod was deleted before it was scheduled")
    return None


def failed(pod: Obj, why: str, now: datetime) -> Obj:
    """The status of a pod that will not run: Failed, with the condition that says it was no fault of its own."""
    made: Obj = {"status": deepcopy(pod.get("status") or {})}
    made["status"]["phase"] = "Failed"
    conditions.set_condition(made, "DisruptionTarget", "True", now=now, reason="DeletionByPodGC", message=why)
    status: Obj = made["status"]
    return status


def surplus(ended: Sequence[Obj], threshold: int) -> list[Obj]:
    """The oldest of the `ended` pods beyond `threshold`."""
    excess = len(ended) - threshold
    return sorted(ended, key=_age)[:excess] if excess > 0 else []


def _age(pod: Obj) -> tuple[str, str, str]:
    metadata = pod["metadata"]
    return (metadata.get("creationTimestamp", ""), metadata.get("namespace", ""), metadata["name"])

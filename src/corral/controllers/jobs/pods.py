"""Facts about a Job's pods, and new ones. Pure."""

from collections.abc import Sequence
from datetime import datetime
from random import Random

from corral.base.clock import parse_rfc3339
from corral.base.ids import suffix
from corral.controllers.jobs.indexes import ANNOTATION
from corral.controllers.pods.pods import is_deleting
from corral.kinds import conditions
from corral.kinds.podspec import phase
from corral.kinds.podtemplate import from_template
from corral.kinds.types import Obj

FINALIZER = "batch.kubernetes.io/job-tracking"
"""Holds an ended pod until it is counted, so that none is lost and none is counted twice."""
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"
_ENV = "JOB_COMPLETION_INDEX"
_NAME_LENGTH = 63


def is_tracked(pod: Obj) -> bool:
    """Whether the pod is still to be counted."""
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def is_indexed(job: Obj) -> bool:
    """Whether each completion of the Job has a number."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def replaces_only_failed(job: Obj) -> bool:
    """Whether a pod that is being deleted must have ended before it counts as failed and is replaced."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def has_failed(job: Obj, pod: Obj) -> bool:
    """Whether the pod failed, or will have: a pod that is being deleted never succeeds."""
    if phase(pod) == "Failed":
        return True
    return is_deleting(pod) and phase(pod) != "Succeeded" and not replaces_only_failed(job)


def ended_at(pod: Obj, now: datetime) -> datetime:
    """When the pod's last container ended; a pod that says nothing of that gives the next best moment."""
    status = pod.get("status") or {}
    moments = [
        terminated["finishedAt"]
        for container in status.get("containerStatuses") or ()
        if (terminated := (container.get("state") or {}).get("terminated")) and terminated.get("finishedAt")
    ]
    if moments:
        return max(map(parse_rfc3339, moments))
    ready = conditions.get(pod, "Ready") or {}
    metadata = pod["metadata"]
    told = metadata.get("deletionTimestamp") or ready.get("lastTransitionTime") or metadata.get("creationTimestamp")
    return min(now, parse_rfc3339(told)) if told else now


def total_restarts(pods: Sequence[Obj]) -> int:
    """Container restarts in pods that run or wait to."""
    return sum(
        int(container.get("restartCount") or 0)
        for pod in pods
        if phase(pod) in ("Running", "Pending")
        for field in ("initContainerStatuses", "containerStatuses")
        for container in (pod.get("status") or {}).get(field) or ()
    )


def annotation_number(pod: Obj, name: str) -> int:
    """A count in a pod's annotations; 0 if absent."""
    text = (pod["metadata"].get("annotations") or {}).get(name, "")
    return int(text) if text.isdigit() else 0


def new_pod(job: Obj, index: int | None, annotations: dict[str, str], rng: Random) -> Obj:
    """A pod of the Job, for a completion index if it is Indexed."""
    pod = from_template(job["spec"]["template"], job)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
    if index is None:
        return pod
    name = job["metadata"]["name"]
    del metadata["generateName"]
    tail = f"-{index}-{suffix(rng)}"
    metadata["name"] = name[: _NAME_LENGTH - len(tail)] + tail
    metadata.setdefault("annotations", {}).update({ANNOTATION: str(index), **annotations})
    metadata["labels"][ANNOTATION] = str(index)
    pod["spec"].setdefault("hostname", f"{name}-{index}"[:_NAME_LENGTH].rstrip("-"))
    for field in ("initContainers", "containers"):
        for container in pod["spec"].get(field) or ():
            environment = container.setdefault("env", [])
            if all(variable["name"] != _ENV for variable in environment):
                path = f"metadata.labels['{ANNOTATION}']"
                environment.append({"name": _ENV, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    return pod

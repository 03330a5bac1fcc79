"""How work is put into a queue: the labels that admission plug-ins, controllers and the command line share.

Names are Kueue's (pkg/controller/constants, pkg/controller/jobs/pod/constants).
"""

from typing import Final

from corral.kinds.owners import owners_of
from corral.kinds.types import Obj

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
MANAGED_LABEL: Final = "kueue.x-k8s.io/managed"
GATE: Final = "kueue.x-k8s.io/admission"
"""The scheduling gate that holds a pod until it is admitted."""
GROUP_LABEL: Final = "kueue.x-k8s.io/pod-group-name"
GROUP_COUNT: Final = "kueue.x-k8s.io/pod-group-total-count"
"""Annotation of a group's pods: how many there will be."""


def queue_name(obj: Obj) -> str:
    """The LocalQueue that an object was put into; empty if into none."""
    return str((obj["metadata"].get("labels") or {}).get(QUEUE_LABEL) or "")


def is_queued_pod(pod: Obj) -> bool:
    """Whether a pod is queued by itself, not as part of a Job."""
    return (pod["metadata"].get("labels") or {}).get(MANAGED_LABEL) == "true"


def is_gated(pod: Obj) -> bool:
    """Whether a pod has not been let go by its queue."""
    return any(gate.get("name") == GATE for gate in pod["spec"].get("schedulingGates") or ())


def owned_by(obj: Obj, uid: str) -> bool:
    """Whether the object with that uid is among an object's owners."""
    return any(reference["uid"] == uid for reference in owners_of(obj))

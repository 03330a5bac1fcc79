"""What a PodGroup and its members say: which group a pod names, how many it takes, who counts, how long it may take.

There are two kinds of that name. Kubernetes' own (scheduling.k8s.io, feature gate GenericWorkload) is named in a pod's
`spec.schedulingGroup`; that of the coscheduling plugin (scheduling.x-k8s.io, a custom resource) in a pod's label.
"""

from typing import NamedTuple

from corral.kinds.podspec import phase
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, POD_GROUPS
from corral.kinds.types import Obj

LABEL = "scheduling.x-k8s.io/pod-group"

# Kubernetes 1.35 waited so long for the rest of a gang; later versions of its PodGroup have no field for it.
_NATIVE_SECONDS = 300
# coscheduling's permitWaitingTimeSeconds.
_COSCHEDULING_SECONDS = 60


class GangKey(NamedTuple):
    """A PodGroup; the two kinds are told apart by their API group."""

    api_group: str
    namespace: str
    name: str


def key_of_group(group: Obj) -> GangKey:
    """The key of a PodGroup of either kind."""
    metadata = group["metadata"]
    return GangKey(group["apiVersion"].partition("/")[0], metadata["namespace"], metadata["name"])


def gang_of(pod: Obj) -> GangKey | None:
    """The group that the pod names, if it names one."""
    metadata = pod["metadata"]
    reference = (pod.get("spec") or {}).get("schedulingGroup")
    if reference and reference.get("podGroupName"):
        return GangKey(POD_GROUPS.group, metadata["namespace"], reference["podGroupName"])
    name = (metadata.get("labels") or {}).get(LABEL)
    return GangKey(COSCHEDULING_POD_GROUPS.group, metadata["namespace"], name) if name else None


def group_of_job(job: Obj) -> tuple[GangKey, int] | None:
    """The PodGroup that a Job is given when it starts, and its minimum: the template names it by the Job's own name.

    It takes as many members as run at once. Only the native kind is made so.
    """
    metadata, spec = job["metadata"], job["spec"]
    own = GangKey(POD_GROUPS.group, metadata["namespace"], metadata["name"])
    parallelism = spec.get("parallelism", 1)
    size = min(parallelism, spec.get("completions") or parallelism)
    template = {"metadata": {"namespace": metadata["namespace"]}, "spec": spec["template"].get("spec")}
    return (own, size) if size and gang_of(template) == own else None


def native_group(key: GangKey, minimum: int) -> Obj:
    """A PodGroup of Kubernetes' own kind."""
    return {
        "kind": POD_GROUPS.kind,
        "apiVersion": POD_GROUPS.api_version,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"schedulingPolicy": {"gang": {"minCount": minimum}}},
    }


def minimum_of(group: Obj) -> int:
    """How many members a PodGroup of either kind takes at least; 0 if each is placed on its own."""
    spec = group.get("spec") or {}
    if is_native(group):
        return int(((spec.get("schedulingPolicy") or {}).get("gang") or {}).get("minCount") or 0)
    return int(spec.get("minMember") or 0)


def timeout_of(group: Obj) -> float:
    """Seconds after which a gang of which only some members have machines gives these up."""
    if is_native(group):
        return _NATIVE_SECONDS
    seconds = (group.get("spec") or {}).get("scheduleTimeoutSeconds")
    return float(seconds) if seconds else _COSCHEDULING_SECONDS


def is_native(group: Obj) -> bool:
    """Whether the PodGroup is Kubernetes' own."""
    return bool(key_of_group(group).api_group == POD_GROUPS.group)


def counts(pod: Obj) -> bool:
    """Whether a member is one of those that the minimum is about: it has a machine, or has succeeded.

    One that failed or is being deleted is replaced and must be placed again; one that has done its work is not missed
    (Volcano's ReadyTaskNum counts alike).
    """
    if phase(pod) in ("Succeeded", "Failed"):
        return phase(pod) == "Succeeded"
    return bool(pod["spec"].get("nodeName")) and not pod["metadata"].get("deletionTimestamp")

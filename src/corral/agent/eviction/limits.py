"""Limits on local storage: `emptyDir.sizeLimit` and limits on `ephemeral-storage`. Pure; the rules and words are the
kubelet's (pkg/kubelet/eviction, localStorageEviction).

No quota of the file system holds a container back: what it uses is counted now and then, and a pod that is beyond its
limit is ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.agent.eviction.plan import GRACE
from corral.agent.podstate.model import Rejection
from corral.base.quantities import format_bytes, whole
from corral.kinds.podspec import pod_limits
from corral.kinds.types import Obj

_STORAGE = "ephemeral-storage"


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes of its machine's disk that a pod takes: its containers (what they wrote, and their logs), its volumes."""

    containers: Mapping[str, int] = field(default_factory=dict)
    volumes: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.containers.values()) + sum(self.volumes.values())


def is_limited(pod: Obj) -> bool:
    """Whether anything of the pod has a limit to look after."""
    return bool(_volume_limits(pod) or _pod_limit(pod))


def beyond(pod: Obj, use: DiskUse) -> Rejection | None:
    """What to tell a pod that is beyond one of its limits, or None."""
    said = _beyond(pod, use)
    return Rejection("Evicted", said, GRACE) if said else None


def _beyond(pod: Obj, use: DiskUse) -> str:
    for name, limit in _volume_limits(pod).items():
        if use.volumes.get(name, 0) > whole(limit):
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}". '
    total = _pod_limit(pod)
    if total and use.total > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {format_bytes(total)}. "
    for name, limit in _container_limits(pod).items():
        if use.containers.get(name, 0) > whole(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def _volume_limits(pod: Obj) -> dict[str, str]:
    """By volume; those in memory are held by their file system."""
    found = {
        volume["name"]: volume["emptyDir"] or {} for volume in pod["spec"].get("volumes") or () if "emptyDir" in volume
    }
    limits = {name: str(spec["sizeLimit"]) for name, spec in found.items() if spec.get("sizeLimit")}
    return {name: limit for name, limit in limits.items() if whole(limit) and found[name].get("medium") != "Memory"}


def _container_limits(pod: Obj) -> dict[str, str]:
    limits = {
        one["name"]: (one.get("resources") or {}).get("limits") or {} for one in pod["spec"].get("containers") or ()
    }
    return {name: str(held[_STORAGE]) for name, held in limits.items() if held.get(_STORAGE)}


def _pod_limit(pod: Obj) -> int:
    """The sum of the limits that containers have; a pod is held to it with all its volumes."""
    return pod_limits(pod).get(_STORAGE, 0)

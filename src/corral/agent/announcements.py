"""What a change of a pod's status is worth telling as events. Pure; the words are the kubelet's."""

from collections.abc import Iterator
from typing import NamedTuple

from corral.kinds.types import Obj


class Announcement(NamedTuple):
    """One event about a pod."""

    type: str
    reason: str
    message: str
    field_path: str


def back_offs(pod: Obj, old: Obj, new: Obj) -> Iterator[Announcement]:
    """Back-offs that have begun between two statuses."""
    before = {found["name"]: _waiting(found).get("reason") for found in statuses(old)}
    metadata = pod["metadata"]
    where = f"{metadata['name']}_{metadata.get('namespace', '')}({metadata['uid']})"
    for found in statuses(new):
        name, reason = found["name"], _waiting(found).get("reason")
        if reason == before.get(name):
            continue
        path = field_path(pod, name)
        if reason == "CrashLoopBackOff":
            message = f"Back-off restarting failed container {name} in pod {where}"
            yield Announcement("Warning", "BackOff", message, path)
        elif reason == "ImagePullBackOff":
            yield Announcement("Normal", "BackOff", f'Back-off pulling image "{found.get("image", "")}"', path)
            yield Announcement("Warning", "Failed", "Error: ImagePullBackOff", path)


def statuses(status: Obj) -> list[Obj]:
    """The statuses of init and main containers."""
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def field_path(pod: Obj, name: str) -> str:
    """Where a container is in the pod, as events show it."""
    for field in ("containers", "initContainers", "ephemeralContainers"):
        if any(found["name"] == name for found in pod["spec"].get(field) or ()):
            return f"spec.{field}{{{name}}}"
    return ""


def _waiting(status: Obj) -> Obj:
    return (status.get("state") or {}).get("waiting") or {}

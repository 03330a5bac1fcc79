"""emptyDir: a directory of the pod's own, on disk or in memory."""

import os
from pathlib import Path

from corral.agent.volumes import tmpfs
from corral.agent.volumes.api import VolumeContext, VolumeError
from corral.base.quantities import whole
from corral.kinds.types import Obj


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    source = volume["emptyDir"] or {}
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise VolumeError(
            f'cannot make emptyDir "{volume["name"]}" with medium {medium!r}: this machine offers disk and Memory',
            'use medium "" or "Memory"',
        )
    if medium == "Memory":
        tmpfs.ensure(context.directory, whole(source["sizeLimit"]) if source.get("sizeLimit") else 0, 0o1777)
    _open_up(context.directory, context.fs_group)
    return context.directory


def _open_up(directory: Path, group: int | None) -> None:
    """Anyone in the pod may write, as with the kubelet (0777; with fsGroup set-group-id too)."""
    directory.mkdir(exist_ok=True)
    if group is not None:
        os.chown(directory, -1, group)
    directory.chmod(0o777 if group is None else 0o2777)

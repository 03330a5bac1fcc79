"""subPath: a part of a volume, mounted where no link can lead out of it.

A container may turn a directory into a link between our look and the mount. So the path is opened component by
component without following links, and what was opened is bound to a place of the agent's own; that is what the runtime
mounts (the kubelet does the same since CVE-2017-1002101).
"""

import contextlib
import os
import stat
from pathlib import Path, PurePosixPath

from corral.agent import mounts
from corral.agent.runtime import syscalls
from corral.agent.volumes.api import VolumeError


def bind(volume: Path, sub_path: str, place: Path) -> Path:
    """Bind `sub_path` of `volume`, made as a directory if missing, at `place`; returns `place`.

    Raises:
        VolumeError: the path leaves the volume or is a link to elsewhere.
    """
    if PurePosixPath(sub_path).is_absolute() or ".." in PurePosixPath(sub_path).parts:
        raise VolumeError(f"subPath {sub_path!r} must be relative and without ..")
    # What a container's last run had bound may be gone by now (a ConfigMap's older files): bind anew.
    mounts.unmount_below(place)
    root = os.path.realpath(volume)
    real = os.path.realpath(os.path.join(root, sub_path))
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise VolumeError(f"subPath {sub_path!r} leads outside of its volume")
    descriptor = _open(root, [part for part in os.path.relpath(real, root).split("/") if part != "."])
    try:
        _make_place(place, directory=stat.S_ISDIR(os.fstat(descriptor).st_mode))
        mounts.mount(f"/proc/self/fd/{descriptor}", str(place), flags=syscalls.MS_BIND)
    finally:
        os.close(descriptor)
    return place


def _open(root: str, parts: list[str]) -> int:
    """A descriptor of the path below `root`; missing directories are made."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    mode = os.fstat(descriptor).st_mode & 0o7777
    try:
        for index, part in enumerate(parts):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode | 0o700, dir_fd=descriptor)
            flags = os.O_PATH | os.O_NOFOLLOW | (0 if index == len(parts) - 1 else os.O_DIRECTORY)
            following = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = following
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise VolumeError(f"{part!r} in a subPath has become a link")
    except OSError as error:
        os.close(descriptor)
        raise VolumeError(f"cannot open a subPath: {error.strerror}") from error
    except VolumeError:
        os.close(descriptor)
        raise
    return descriptor


def _make_place(place: Path, *, directory: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if directory:
        place.mkdir(exist_ok=True)
    else:
        place.touch(exist_ok=True)

"""hostPath: a path of the machine itself, of the type that the pod expects."""

import stat
from pathlib import Path

from corral.agent.volumes.api import VolumeContext, VolumeError
from corral.kinds.types import Obj

_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


async def prepare(volume: Obj, context: VolumeContext) -> Path:
    source = volume["hostPath"]
    path = Path(source.get("path", ""))
    check(path, source.get("type") or "")
    return path


def check(path: Path, kind: str) -> None:
    """See that `path` is what `kind` says; the OrCreate kinds make it.

    Raises:
        VolumeError: it is not, or the kind is unknown.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise VolumeError(f"hostPath {str(path)!r} must be absolute and without ..")
    try:
        if kind == "":
            return
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
            kind = "Directory"
        elif kind == "FileOrCreate":
            path.touch(mode=0o644, exist_ok=True)
            kind = "File"
        if kind not in _CHECKS:
            raise VolumeError(f"hostPath type {kind!r} is unknown", f"use one of {', '.join(sorted(_CHECKS))}")
        matches, shown = _CHECKS[kind]
        if not path.exists() or not matches(path.stat().st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not {shown}")
    except OSError as error:
        raise VolumeError(f"hostPath {path} cannot be used: {error.strerror}") from error

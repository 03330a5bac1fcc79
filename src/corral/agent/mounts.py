"""Mounting and unmounting through libc: what Python's `os` lacks."""

import ctypes
import os
from pathlib import Path

from corral.base.errors import CorralError

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class MountError(CorralError):
    """A mount or unmount that the kernel refused."""


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2).

    Raises:
        MountError: with the kernel's reason.
    """
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        code = ctypes.get_errno()
        raise MountError(f"cannot mount {kind or source} at {target}: {os.strerror(code)}")


def unmount(target: str) -> None:
    """umount2(2), detaching what is still in use.

    Raises:
        MountError: with the kernel's reason.
    """
    if _libc.umount2(target.encode(), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        raise MountError(f"cannot unmount {target}: {os.strerror(code)}")


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory`, the deepest (and latest) first."""
    prefix = os.path.realpath(directory)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = _unescape(line.split(" ")[4])
            if point == prefix or point.startswith(prefix + "/"):
                found.append(point)
    return found[::-1]


def _unescape(text: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes as octal escapes."""
    for escaped, plain in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, plain)
    return text


def unmount_below(directory: Path) -> None:
    """Unmount everything at or below `directory`.

    Raises:
        MountError: something stays mounted; nothing below may be deleted then.
    """
    for point in mounts_below(directory):
        unmount(point)
    left = mounts_below(directory)
    if left:
        raise MountError(f"cannot unmount {left[0]}: it is mounted again")

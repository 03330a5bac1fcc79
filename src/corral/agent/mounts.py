"""Mounting and unmounting with errors for people, and what is mounted (proc_pid_mountinfo(5))."""

import os
from dataclasses import dataclass
from pathlib import Path

from corral.agent.runtime import syscalls
from corral.base.errors import CorralError


class MountError(CorralError):
    """A mount or unmount that the kernel refused."""


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2).

    Raises:
        MountError: with the kernel's reason.
    """
    try:
        syscalls.mount(source, target, kind, flags, data)
    except OSError as error:
        raise MountError(f"cannot mount {kind or source} at {target}: {error.strerror}") from error


def unmount(target: str) -> None:
    """umount2(2), detaching what is still in use.

    Raises:
        MountError: with the kernel's reason.
    """
    try:
        if syscalls.unmount(target):
            return
    except OSError as error:
        raise MountError(f"cannot unmount {target}: {error.strerror}") from error
    raise MountError(f"cannot unmount {target}: nothing is mounted there")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of a table of mounts."""

    device: str
    """`MAJOR:MINOR` of the file system."""
    point: str
    options: frozenset[str]
    """Of the mount."""
    kind: str
    source: str
    """Of a file system on a disk: the path of its device."""
    state: frozenset[str]
    """The options of the file system itself."""


def parse(table: str) -> list[Mount]:
    """The mounts in a table, as the kernel writes it; lines that are not like that are left out."""
    found = []
    for line in table.splitlines():
        head, _, tail = line.partition(" - ")
        fields, described = head.split(" "), tail.split(" ")
        if len(fields) >= 6 and len(described) >= 3:
            options, state = frozenset(fields[5].split(",")), frozenset(described[2].split(","))
            found.append(Mount(fields[2], _unescape(fields[4]), options, described[0], _unescape(described[1]), state))
    return found


def mounts_below(directory: Path) -> list[str]:
    """Mount points at or below `directory`, the deepest (and latest) first."""
    prefix = os.path.realpath(directory)
    table = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    points = (mount.point for mount in parse(table))
    return [point for point in points if point == prefix or point.startswith(prefix + "/")][::-1]


def _unescape(text: str) -> str:
    """Blanks, tabs, newlines and backslashes are written as octal escapes."""
    if "\\" not in text:
        return text
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

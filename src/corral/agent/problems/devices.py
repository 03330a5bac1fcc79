"""Which file systems and disks concern this machine: those of the system, of the agent's own directory and of what is
mounted into containers. Others' troubles are others': several machines may share one kernel (`corral up --machines`).

Containers are asked through /proc, where the kernel says what they see: no path is followed, so no disk that hangs
holds anybody up.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from corral.agent.mounts import Mount, parse

_NVME: Final = re.compile(r"(nvme\d+)n\d+")


def holding(mounts: Sequence[Mount], path: str) -> Mount | None:
    """The mount that `path` (absolute, without symbolic links) is in."""
    above = [mount for mount in mounts if mount.point == "/" or f"{path}/".startswith(f"{mount.point}/")]
    # Of several at one point the last one counts: it covers the others.
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


class Devices:
    """What is used now.

    Args:
        directory: the agent's own.
        pids: processes, one of each container that runs.
        proc: /proc.
        system: /sys.
    """

    def __init__(
        self,
        directory: Path,
        pids: Callable[[], Iterable[int]] = lambda: (),
        proc: Path = Path("/proc"),
        system: Path = Path("/sys"),
    ) -> None:
        self._directory = os.path.realpath(directory)
        self._pids = pids
        self._proc = proc
        self._system = system

    def mounts(self) -> list[Mount]:
        """The machine's mounts of file systems that are used.

        Raises:
            OSError: the machine's mounts cannot be read.
        """
        mounts = parse((self._proc / "self/mountinfo").read_text(errors="replace"))
        own = filter(None, (holding(mounts, path) for path in ("/", self._directory)))
        used = {mount.device for mount in own}.union(*map(self._seen_by, self._pids()))
        return [mount for mount in mounts if mount.device in used]

    def _seen_by(self, pid: int) -> set[str]:
        try:
            table = (self._proc / f"{pid}/mountinfo").read_text(errors="replace")
        except OSError:  # it has ended
            return set()
        return {fields[2] for line in table.splitlines() if len(fields := line.split(" ", 3)) > 3}

    def disks(self) -> frozenset[str] | None:
        """The kernel's names of the disks below them, and of their parts; None: it cannot be told for the agent's own.

        Raises:
            OSError: the machine's mounts cannot be read.
        """
        mounts = self.mounts()
        own = holding(mounts, self._directory)
        if own is None or not self._names(own):
            return None
        each = {mount.device: mount for mount in mounts}.values()
        return frozenset(name for mount in each for name in self._names(mount))

    def _names(self, mount: Mount) -> set[str]:
        entry = self._system / "dev/block" / mount.device
        if not entry.exists():  # btrfs has numbers of its own, and names a device
            entry = self._system / "class/block" / Path(os.path.realpath(mount.source)).name
        return set(_below(entry.resolve())) if mount.source.startswith("/dev/") and entry.exists() else set()


def _below(entry: Path) -> Iterator[str]:
    """A block device, what it is a part of, and what it is made of (dm, md)."""
    yield entry.name
    if (entry / "partition").exists():
        yield from _below(entry.parent)
    if found := _NVME.fullmatch(entry.name):
        yield found[1]
    for lower in sorted((entry / "slaves").glob("*")):
        yield from _below(lower.resolve())

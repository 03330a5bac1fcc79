"""ReadonlyFilesystem: a file system that should be written to cannot be, most often because the kernel took it away
after an error of its disk.

Two signs: a new file in the agent's own directory (`EROFS`, `EIO`, or no answer at all; a full disk is another matter),
and any mount of a disk that is used here (`devices`) and for writing, while its file system is not. A person who mounts
something read-only makes both read-only.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.agent.mounts import Mount
from corral.agent.problems.api import Finding, Sample, Source, persists
from corral.agent.problems.devices import Devices

_HOLD: Final = 60.0
_ANSWER_SECONDS: Final = 20.0
_BROKEN: Final = {errno.EROFS, errno.EIO, errno.ESHUTDOWN, errno.ENODEV, errno.ENXIO}
_WRITABLE: Final = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs"}
"""Others may be read-only by nature."""
_TAKEN: Final = frozenset({"ro", "emergency_ro", "shutdown"})
"""What a file system says of itself then; the second is ext4's, on newer kernels."""
_MOST_NAMED: Final = 5
_PROBE: Final = ".writable"


@dataclass(frozen=True, slots=True)
class Reading:
    """Why the agent's directory cannot be written (empty: it can), and mounts that were taken away."""

    error: str = ""
    lost: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        return bool(self.error or self.lost)


def lost_mounts(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Where file systems on disks are mounted for writing and are read-only all the same."""
    found: dict[str, str] = {}
    for mount in mounts:
        disk = mount.kind in _WRITABLE and mount.source.startswith("/dev/")
        if disk and "rw" in mount.options and _TAKEN & mount.state:
            found.setdefault(mount.device, f"{mount.point} ({mount.source})")
    return tuple(found.values())


def judge(samples: Sequence[Sample[Reading]], now: float) -> tuple[Finding, ...]:
    """By the readings of the last minute; of other mounts than the agent's own, two in a row: they come and go."""
    own = persists(samples, lambda reading: bool(reading.error), now, hold=_HOLD)
    sample = own or persists(samples, lambda reading: bool(reading.lost), now, times=2, hold=_HOLD)
    if sample is None:
        said = "the machine's file systems can be written"
        return (Finding("ReadonlyFilesystem", False, "FilesystemIsWritable", said),)
    reading = sample.value
    said = reading.error or f"the kernel made {', '.join(reading.lost[:_MOST_NAMED])} read-only"
    return (Finding("ReadonlyFilesystem", True, "FilesystemIsReadOnly", said, acute=samples[-1].value.bad),)


class FilesystemSource(Source[Reading]):
    """The file system of `directory`, and those that are used."""

    types = ("ReadonlyFilesystem",)
    period = 30.0
    keep = _HOLD + 30.0
    judge = staticmethod(judge)

    def __init__(self, directory: Path, devices: Devices, write: Callable[[Path], None] | None = None) -> None:
        self._directory = directory
        self._devices = devices
        self._write = write or write_file
        self._probe: asyncio.Task[str] | None = None

    async def read(self) -> Reading:
        # A disk that hangs holds a thread: the same one is waited for until it answers.
        if self._probe is None:
            self._probe = asyncio.create_task(asyncio.to_thread(self._try), name="probe of the disk")
        try:
            error = await asyncio.wait_for(asyncio.shield(self._probe), _ANSWER_SECONDS)
        except TimeoutError:
            return Reading(f"{self._directory} does not answer a write within {_ANSWER_SECONDS:.0f} s")
        self._probe = None
        return Reading(error, lost_mounts(self._devices.mounts()))

    def _try(self) -> str:
        try:
            self._write(self._directory / _PROBE)
        except OSError as error:
            if error.errno in _BROKEN:
                return f"cannot write in {self._directory}: {error.strerror}"
        return ""

    def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()


def write_file(path: Path) -> None:
    """Make a file and remove it.

    Raises:
        OSError: the file system does not do that.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.close(descriptor)
    with suppress(FileNotFoundError):
        path.unlink()

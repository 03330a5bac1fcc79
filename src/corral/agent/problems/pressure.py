"""MemoryPressure, DiskPressure, PIDPressure: too little is left of what pods share. Words and thresholds are the
kubelet's (`evictionHard`: memory.available < 100Mi, nodefs.available < 10 %, nodefs.inodesFree < 5 %).

Beyond the machine's own memory, what its pods may have together counts (the kubelet's allocatableMemory.available): a
machine that was told to be smaller than it is shows pressure when its pods use more than that.

A condition outlasts what caused it by less than the kubelet's five minutes: where there are few machines, one that
takes no pods is felt. A disk that was emptied counts as such at once.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.agent import machine as facts
from corral.agent.problems.api import Finding, Sample, Source, persists
from corral.base.quantities import format_bytes

MEMORY_FLOOR: Final = 100 << 20
PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")
DISK_SHARE: Final = 0.10
INODES_SHARE: Final = 0.05
_PIDS_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Reading:
    """Amounts in bytes, or counts."""

    memory_available: int
    disk: int
    disk_available: int
    inodes: int
    inodes_free: int
    processes: int
    process_limit: int
    pods_over: int = 0
    """By how much the pods together use more memory than they may."""

    @property
    def memory_short(self) -> int:
        """Bytes that are missing; 0 if none are."""
        return max(0, MEMORY_FLOOR - self.memory_available, self.pods_over)

    @property
    def disk_short(self) -> int:
        """Bytes that are missing; 0 if none are."""
        return max(0, int(self.disk * DISK_SHARE) - self.disk_available)

    @property
    def few_inodes(self) -> bool:
        # File systems that make inodes as they go say that they have none.
        return self.inodes_free < int(self.inodes * INODES_SHARE)

    @property
    def much_disk(self) -> bool:
        """Twice as much as must be there is."""
        enough = self.disk_available >= 2 * self.disk * DISK_SHARE
        return enough and self.inodes_free >= 2 * int(self.inodes * INODES_SHARE)

    @property
    def process_floor(self) -> int:
        """How many more processes there must at least be able to be."""
        return int(self.process_limit * _PIDS_SHARE)

    @property
    def few_processes(self) -> bool:
        return self.process_limit - self.processes < self.process_floor


def judge(samples: Sequence[Sample[Reading]], now: float) -> tuple[Finding, ...]:
    """All three, by the samples of the last minute."""
    return tuple(_one(aspect, samples, now) for aspect in _ASPECTS)


def _one(aspect: "_Aspect", samples: Sequence[Sample[Reading]], now: float) -> Finding:
    acute = aspect.bad(samples[-1].value)
    sample = persists(samples, aspect.bad, now, hold=aspect.hold)
    if sample is None or aspect.over(samples[-1].value):
        return Finding(aspect.type, False, *aspect.well, acute)
    reason, said = aspect.ill
    return Finding(aspect.type, True, reason, f"{said}: {aspect.words(sample.value)}", acute)


def _memory_words(reading: Reading) -> str:
    if reading.pods_over > MEMORY_FLOOR - reading.memory_available:
        return f"the pods use {_size(reading.pods_over)} more than the machine has for them"
    return f"{_size(reading.memory_available)} left, less than {_size(MEMORY_FLOOR)}"


def _disk_words(reading: Reading) -> str:
    if reading.disk_short:
        share = reading.disk_available / reading.disk
        return (
            f"{_size(reading.disk_available)} of {_size(reading.disk)} ({share:.0%}) left, less than {DISK_SHARE:.0%}"
        )
    return f"{reading.inodes_free} of {reading.inodes} inodes left, less than {INODES_SHARE:.0%}"


def _process_words(reading: Reading) -> str:
    return f"{reading.processes} processes and threads of at most {reading.process_limit}"


def _size(count: int) -> str:
    """Whole mebibytes, as a quantity."""
    return format_bytes(count >> 20 << 20) if count >= 1 << 20 else format_bytes(count)


@dataclass(frozen=True, slots=True)
class _Aspect:
    """One of the three: when it is bad, its reasons and messages, and how long it outlasts what caused it."""

    type: str
    bad: Callable[[Reading], bool]
    words: Callable[[Reading], str]
    ill: tuple[str, str]
    well: tuple[str, str]
    hold: float
    over: Callable[[Reading], bool] = lambda reading: False
    """When it is so well again that nothing need be held."""


_ASPECTS: Final = (
    _Aspect(
        "MemoryPressure",
        lambda reading: reading.memory_short > 0,
        _memory_words,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        hold=60.0,
    ),
    _Aspect(
        "DiskPressure",
        lambda reading: reading.disk_short > 0 or reading.few_inodes,
        _disk_words,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        hold=15.0,
        over=lambda reading: reading.much_disk,
    ),
    _Aspect(
        "PIDPressure",
        lambda reading: reading.few_processes,
        _process_words,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        hold=60.0,
    ),
)


class PressureSource(Source[Reading]):
    """What is left of the machine, and of the file system of `directory`.

    Args:
        allocatable: bytes of memory that pods may use together.
        groups: directories of control groups that hold the pods' own; those without memory figures do not matter.
    """

    types = PRESSURES
    period = 5.0
    keep = 60.0
    judge = staticmethod(judge)

    def __init__(self, directory: Path, allocatable: int, groups: Sequence[str]) -> None:
        self._directory = directory
        self._allocatable = allocatable
        self._groups = [Path(group) for group in groups]

    async def read(self) -> Reading:
        disk = os.statvfs(self._directory)
        processes, limit = facts.processes()
        return Reading(
            facts.memory_available(),
            disk.f_blocks * disk.f_frsize,
            disk.f_bavail * disk.f_frsize,
            disk.f_files,
            disk.f_favail,
            processes,
            limit,
            max(0, max(map(held, self._groups), default=0) - self._allocatable),
        )


_USED: Final = ("memory.current", "memory.usage_in_bytes")
_CACHES: Final = {"active_file", "inactive_file"}, {"total_active_file", "total_inactive_file"}
"""By version of control groups. What is read from files again counts as free, as in the machine's `MemAvailable`: the
kubelet does not count what was read twice, and then takes a busy cache for need."""


def held(group: Path) -> int:
    """Bytes that a control group uses and could not give back; 0 where it has no memory figures."""
    for used, caches in zip(_USED, _CACHES, strict=True):
        try:
            total = int((group / used).read_text())
            stat = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
            return max(0, total - sum(int(count) for name, count in stat if name in caches))
        except (OSError, ValueError):
            continue
    return 0

"""DiskErrors: a disk that is used here (`devices`) fails, by the kernel's log and, where `smartctl` is installed, by
what disks say of themselves.

One failed read may be a cosmic ray; three in ten minutes are not, and neither are a medium error, a corrupt file system
or a disk that predicts its own end. Loop devices, memory and removable media are not the machine's disks.
"""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from corral.agent.problems.api import Finding, Sample, Source
from corral.agent.problems.devices import Devices
from corral.agent.problems.kernel_log import KernelLog
from corral.agent.runtime import spawn
from corral.base.clock import Clock

_SECONDS: Final = 600.0
_FEW: Final = 3
_SMART_SECONDS: Final = 1800.0
_SMART_FIRST: Final = 60.0
"""Disks take their time to answer: not while the agent starts."""
_NOT_DISKS: Final = re.compile(r"(?:loop|fd|sr|ram|zram|nbd)\d")
# block/blk-core.c (blk_errors), fs/buffer.c, drivers/nvme, and the file systems' own words.
_ERRORS: Final = (
    re.compile(
        r"(?:\w+: )?(?P<grave>critical medium|)(?:I/O|timeout|protection|) ?error, dev (?P<disk>[\w!-]+), sector"
    ),
    re.compile(r"Buffer I/O error on dev(?:ice)? (?P<disk>[\w!-]+), logical block"),
    re.compile(r"(?P<disk>nvme\d+n\d+): I/O Cmd\(.*I/O Error"),
    re.compile(r"nvme (?P<disk>nvme\d+): I/O .* timeout"),
    re.compile(r"(?P<grave>EXT4-fs error) \(device (?P<disk>[\w!-]+)\)"),
    re.compile(r"XFS \((?P<disk>[\w!-]+)\): (?P<grave>Metadata corruption|Corruption|metadata I/O error)"),
    re.compile(r"(?P<grave>BTRFS (?:error|critical)) \(device (?P<disk>[\w!-]+).*(?:errs:|corrupt)"),
)


@dataclass(frozen=True, slots=True)
class DiskError:
    """Something that the kernel said of a disk; `grave`: damage that stays."""

    disk: str
    text: str
    grave: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """Errors since the last reading, with their age in seconds, and the disks that say that they fail."""

    errors: tuple[tuple[float, DiskError], ...] = ()
    failing: tuple[str, ...] = ()
    used: frozenset[str] | None = None
    """The disks that count; None: all."""


def disk_error(text: str) -> DiskError | None:
    """What a message of the kernel says of a disk of the machine."""
    for pattern in _ERRORS:
        found = pattern.match(text)
        if found and not _NOT_DISKS.match(found["disk"]):
            return DiskError(found["disk"], text, bool(found.groupdict().get("grave")))
    return None


def judge(samples: Sequence[Sample[Reading]], now: float) -> tuple[Finding, ...]:
    """By the errors of the last ten minutes, and what disks say of themselves now."""
    failing, used = samples[-1].value.failing, samples[-1].value.used
    if failing:
        said = f"SMART: {', '.join(failing)} predicts its own failure: replace it"
        return (Finding("DiskErrors", True, "DiskFailing", said, acute=True),)
    told = [error for one in samples for age, error in one.value.errors if now - (one.at - age) <= _SECONDS]
    recent = [error for error in told if used is None or error.disk in used]
    counts = Counter(error.disk for error in recent)
    bad = [error for error in recent if error.grave or counts[error.disk] >= _FEW]
    if not bad:
        return (Finding("DiskErrors", False, "NoDiskErrors", "the kernel reports no errors of disks"),)
    last = bad[-1]
    said = f"{counts[last.disk]} errors of {last.disk} in {_SECONDS / 60:.0f} minutes, last: {last.text[:200]}"
    return (Finding("DiskErrors", True, "KernelReportsErrors", said, acute=True),)


class DiskSource(Source[Reading]):
    """The kernel's log and, every half an hour, the disks themselves."""

    types = ("DiskErrors",)
    period = 10.0
    keep = _SECONDS
    judge = staticmethod(judge)

    def __init__(
        self,
        log: KernelLog,
        clock: Clock,
        devices: Devices,
        *,
        disks: Path = Path("/sys/block"),
        find: Callable[[], str | None] | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._devices = devices
        self._disks = disks
        self._find = find or (lambda: shutil.which("smartctl", path=spawn.PATH))
        self._due = clock.monotonic() + _SMART_FIRST
        self._failing: tuple[str, ...] = ()
        self._quiet = clock.monotonic()

    async def read(self) -> Reading:
        now = self._clock.monotonic()
        if now >= self._due:
            self._due = now + _SMART_SECONDS
            self._failing = await self._ask()
        errors = self._log.read(disk_error)
        if errors:
            self._quiet = now + _SECONDS
        # Seldom needed, and not for nothing.
        return Reading(errors, self._failing, self._devices.disks() if now < self._quiet else None)

    async def _ask(self) -> tuple[str, ...]:
        smartctl = self._find()
        if smartctl is None:
            return ()
        used = self._devices.disks()
        found = sorted(entry.name for entry in self._disks.iterdir() if (entry / "device").exists())
        named = [name for name in found if used is None or name in used]
        # A disk that sleeps is left asleep.
        asked = [
            (name, await spawn.run([smartctl, "--json", "-H", "-n", "standby", f"/dev/{name}"]))
            for name in named
            if not _NOT_DISKS.match(name)
        ]
        return tuple(name for name, done in asked if fails(done.stdout))

    def close(self) -> None:
        self._log.close()


def fails(report: bytes) -> bool:
    """Whether what `smartctl --json -H` said means that the disk fails; no answer means nothing."""
    try:
        said = orjson.loads(report)
    except orjson.JSONDecodeError:
        return False
    health = said.get("smart_status") if isinstance(said, dict) else None
    return isinstance(health, dict) and health.get("passed") is False

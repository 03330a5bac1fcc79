"""Every source that a machine has."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.agent.problems.api import Source
from corral.agent.problems.conntrack import ConntrackSource
from corral.agent.problems.devices import Devices
from corral.agent.problems.disks import DiskSource
from corral.agent.problems.filesystem import FilesystemSource
from corral.agent.problems.kernel_log import KernelLog
from corral.agent.problems.oom import OomSource
from corral.agent.problems.pressure import PressureSource
from corral.agent.problems.runtime import RuntimeSource
from corral.agent.problems.skew import SkewSource
from corral.agent.runtime.api import Runtime
from corral.base.clock import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What sources look at."""

    directory: Path
    """The agent's own."""
    memory: int
    """Bytes that pods may use together."""
    groups: Sequence[str]
    """Directories of control groups that hold the pods' own."""
    runtime: Runtime
    date: Callable[[], Awaitable[str]]
    """The `Date` of an answer of the server's that is made now."""
    clock: Clock
    pids: Callable[[], Iterable[int]]
    """Processes, one of each container that runs."""


Sources = Callable[[Surroundings], Sequence[Source[Any]]]


def machine_sources(around: Surroundings) -> Sequence[Source[Any]]:
    """The sources of a real machine."""
    devices = Devices(around.directory, around.pids)
    return (
        PressureSource(around.directory, around.memory, around.groups),
        FilesystemSource(around.directory, devices),
        SkewSource(around.date, around.clock),
        DiskSource(KernelLog(), around.clock, devices),
        OomSource(KernelLog()),
        RuntimeSource(around.runtime),
        ConntrackSource(),
    )

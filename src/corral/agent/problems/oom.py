"""OOMStorm: the machine as a whole ran out of memory several times in a short while.

Only kills for want of the machine's memory count. A container that outgrows its own limit is killed too, again and
again if it is started again; that is the container's fault, and it would take its trouble to any other machine.
"""

import re
from collections.abc import Sequence
from typing import Final

from corral.agent.problems.api import Finding, Sample, Source
from corral.agent.problems.kernel_log import KernelLog

# mm/oom_kill.c; kills for a control group's limit begin with "Memory cgroup".
_KILLED: Final = re.compile(r"Out of memory: Kill(?:ed)? process (\d+) \((.*?)\)")
_STORM: Final = 3
_SECONDS: Final = 300.0

Kills = tuple[tuple[float, str], ...]
"""Age in seconds and name of each process that was killed."""


def victim(text: str) -> str | None:
    """The process that a message of the kernel says was killed for want of the machine's memory."""
    found = _KILLED.match(text)
    return f"{found[2]} ({found[1]})" if found else None


def judge(samples: Sequence[Sample[Kills]], now: float) -> tuple[Finding, ...]:
    """By the kills of the last five minutes."""
    names = [name for sample in samples for age, name in sample.value if now - (sample.at - age) <= _SECONDS]
    if len(names) < _STORM:
        return (Finding("OOMStorm", False, "NoOOMStorm", "the machine has memory for what runs on it"),)
    said = f"{len(names)} processes killed in {_SECONDS / 60:.0f} minutes because the machine has no memory left"
    return (Finding("OOMStorm", True, "ProcessesKilled", f"{said}, last {names[-1]}", acute=True),)


class OomSource(Source[Kills]):
    """The kernel's log."""

    types = ("OOMStorm",)
    period = 10.0
    keep = _SECONDS
    judge = staticmethod(judge)

    def __init__(self, log: KernelLog) -> None:
        self._log = log

    async def read(self) -> Kills:
        return self._log.read(victim)

    def close(self) -> None:
        self._log.close()

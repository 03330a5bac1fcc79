"""ConntrackFull: the kernel's table of connections is about to be full, and then it drops packets of new ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corral.agent.problems.api import Finding, Sample, Source, persists

_SHARE: Final = 0.9
_HOLD: Final = 60.0
_PROC: Final = Path("/proc/sys/net/netfilter")


def judge(samples: Sequence[Sample[tuple[int, int]]], now: float) -> tuple[Finding, ...]:
    """By samples of how many connections there are, and how many there may be (0: nobody counts)."""
    full = persists(samples, _full, now, hold=_HOLD)
    acute = _full(samples[-1].value)
    if full is None:
        return (Finding("ConntrackFull", False, "ConntrackHasRoom", "the table of connections has room", acute),)
    count, limit = full.value
    message = f"{count} of at most {limit} connections are tracked: new ones are dropped when it is full"
    return (Finding("ConntrackFull", True, "ConntrackAlmostFull", message, acute),)


def _full(value: tuple[int, int]) -> bool:
    count, limit = value
    return limit > 0 and count >= limit * _SHARE


class ConntrackSource(Source[tuple[int, int]]):
    """The table of the agent's network namespace."""

    types = ("ConntrackFull",)
    period = 10.0
    keep = _HOLD
    judge = staticmethod(judge)

    def __init__(self, directory: Path = _PROC) -> None:
        self._directory = directory

    async def read(self) -> tuple[int, int]:
        try:
            return tuple(int((self._directory / f"nf_conntrack_{name}").read_text()) for name in ("count", "max"))  # type: ignore[return-value]
        except FileNotFoundError:
            return 0, 0

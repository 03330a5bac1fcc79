"""ClockSkewed: this machine's wall clock and the server's disagree.

Wrong clocks break certificates, tokens and deadlines. The server's clock is the `Date` of an answer, which is whole
seconds, made at some moment between question and answer: so a reading is a range in which the difference lies, and only
what is surely beyond the limit counts. A reading during which our own clock jumped (it went otherwise than the
monotonic one) is thrown away.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from corral.agent.problems.api import Finding, Sample, Source, persists
from corral.base.clock import Clock

_LIMIT: Final = 5.0
"""Seconds. Leases and fences are measured on monotonic clocks and bear any difference."""
_HOLD: Final = 60.0
_JUMP: Final = 0.5


@dataclass(frozen=True, slots=True)
class Offset:
    """The machine's clock is between `least` and `most` seconds ahead of the server's (negative: behind it)."""

    least: float
    most: float

    @property
    def surely(self) -> float:
        """The difference in seconds that there is at least, with its sign."""
        return max(0.0, self.least) + min(0.0, self.most)


Reading = Offset | None
"""None: nothing can be said."""


def offset(sent: float, received: float, date: float) -> Offset:
    """From the wall times at which the question left and the answer came, and the server's date, all in seconds."""
    return Offset(sent - (date + 1.0), received - date)


def judge(samples: Sequence[Sample[Reading]], now: float) -> tuple[Finding, ...]:
    """Two readings in a row must be off: a machine that was paused for a moment is not."""
    known = [sample for sample in samples if sample.value is not None]
    if not known:
        return (Finding("ClockSkewed", None, "NothingToCompare", "the server has not told its time"),)
    sample = persists(known, _off, now, times=2, hold=_HOLD)
    if sample is None or sample.value is None:
        return (Finding("ClockSkewed", False, "ClockAgrees", "the machine's clock agrees with the server's"),)
    seconds = sample.value.surely
    way = "ahead of" if seconds > 0 else "behind"
    said = f"the machine's clock is {abs(seconds):.0f} s {way} the server's: see to its time service (NTP)"
    return (Finding("ClockSkewed", True, "ClockDisagrees", said, acute=_off(known[-1].value)),)


def _off(reading: Reading) -> bool:
    return reading is not None and abs(reading.surely) > _LIMIT


class SkewSource(Source[Reading]):
    """The server's clock, by `ask`, which returns the `Date` of an answer that is made now; empty within one process,
    which has one clock."""

    types = ("ClockSkewed",)
    period = 30.0
    keep = 150.0
    judge = staticmethod(judge)

    def __init__(self, ask: Callable[[], Awaitable[str]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock

    async def read(self) -> Reading:
        began, sent = self._clock.monotonic(), self._clock.now().timestamp()
        date = await self._ask()
        received, took = self._clock.now().timestamp(), self._clock.monotonic() - began
        if not date:
            return Offset(0.0, 0.0)
        if abs(received - sent - took) > _JUMP:
            return None
        return offset(sent, received, parsedate_to_datetime(date).timestamp())

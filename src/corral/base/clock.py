"""Time as an argument.

Whatever needs the time takes a `Clock`; production passes `SystemClock`, tests pass `corral.testing.FakeClock`, so no
test ever waits for time to pass.
"""

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1)


class Clock(Protocol):
    """Wall time, monotonic time and sleeping."""

    def now(self) -> datetime:
        """The wall time, timezone-aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of monotonic time."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def rfc3339(moment: datetime) -> str:
    """`metav1.Time`: seconds, UTC, `Z` (2006-01-02T15:04:05Z)."""
    # Every object bears some, and thousands are made within a second.
    return _second(math.floor(moment.timestamp()))


@lru_cache(64)
def _second(since_epoch: int) -> str:
    return (_EPOCH + timedelta(seconds=since_epoch)).isoformat(timespec="seconds") + "Z"


def rfc3339_micro(moment: datetime) -> str:
    """`metav1.MicroTime`: six decimals, UTC, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def parse_rfc3339(text: str) -> datetime:
    """The moment that `text` names.

    Raises:
        ValueError: `text` is not an RFC 3339 time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"cannot read {text!r} as a time: it has no time zone (write 2006-01-02T15:04:05Z)")
    return moment.astimezone(UTC)

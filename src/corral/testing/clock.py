"""A clock that only a test moves."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""Where every `FakeClock` starts unless told otherwise."""

_TURNS = 30
"""Event-loop turns that `settle` grants: enough for a chain of tasks that wake each other."""


class FakeClock:
    """A `corral.base.clock.Clock` whose time stands still until `advance` is called."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._start = start
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), future))
        await future

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back), as a person or a time service does; nobody wakes."""
        self._start += timedelta(seconds=seconds)

    @property
    def sleepers(self) -> int:
        """How many tasks wait for time to pass."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, waking sleepers one by one in the order of their deadlines.

        Each sleeper sees the time of its own deadline, and what it does, including sleeping again, happens before the
        next one wakes.
        """
        if seconds < 0:
            raise ValueError(f"cannot advance by {seconds} seconds: time does not go back")
        target = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._elapsed = max(self._elapsed, deadline)
            future.set_result(None)
            await settle()
        self._elapsed = target
        await settle()


async def settle(turns: int = _TURNS) -> None:
    """Let the tasks that are ready run, without any time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)

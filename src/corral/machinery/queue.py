"""A queue of keys that never hands out one key twice at once.

Adding a key that waits is one entry; adding a key that somebody works on brings it back when they are done. A key may
also wake up later; of several wake-ups the earliest counts, and taking the key clears it, because whoever reconciles
looks at the whole state and says anew when to look again.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from corral.base.backoff import Backoff
from corral.base.clock import Clock

K = TypeVar("K", bound=Hashable)

RETRY = Backoff(initial=0.005, maximum=300.0)
"""From 5 ms, as client-go's default controller rate limiter, up to five minutes."""


class KeyQueue(Generic[K]):
    """Keys to work on, in the order of arrival. `run` must be running for delayed keys to wake up."""

    def __init__(self, clock: Clock, *, backoff: Backoff = RETRY) -> None:
        self._clock = clock
        self._backoff = backoff
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._wake: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._earlier = asyncio.Event()

    def __len__(self) -> int:
        """Keys ready to be worked on."""
        return len(self._ready)

    def add(self, key: K) -> None:
        """Work on `key` as soon as possible."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._call_getter()

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` in `seconds`, unless it is to wake up earlier anyway."""
        if seconds <= 0:
            self.add(key)
            return
        when = self._clock.monotonic() + seconds
        if when >= self._wake.get(key, float("inf")):
            return
        self._wake[key] = when
        heapq.heappush(self._heap, (when, next(self._order), key))
        if self._heap[0][2] == key:
            self._earlier.set()

    def retry(self, key: K) -> float:
        """Work on `key` again after its back-off, which is returned in seconds and grows until `forget`."""
        attempt = self._failures.get(key, 0)
        self._failures[key] = attempt + 1
        delay = self._backoff.delay(attempt)
        self.add_after(key, delay)
        return delay

    def failures(self, key: K) -> int:
        """How often `key` was retried since `forget`."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """It went well: the next failure of `key` starts with the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; the caller must say `done` when it has worked on it."""
        while not self._ready:
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter in self._getters:
                    self._getters.remove(getter)
                elif self._ready:
                    self._call_getter()
                raise
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._active.add(key)
        self._wake.pop(key, None)
        return key

    def done(self, key: K) -> None:
        """The work on `key` that `get` began has ended."""
        self._active.remove(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _call_getter(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    async def run(self) -> None:
        """Wake delayed keys up, until cancelled."""
        while True:
            self._earlier.clear()
            pause = self._wake_due()
            if pause is None:
                await self._earlier.wait()
            else:
                await self._pause(pause)

    def _wake_due(self) -> float | None:
        """Add what is due; seconds until the next wake-up, or None."""
        now = self._clock.monotonic()
        while self._heap:
            when, _, key = self._heap[0]
            if self._wake.get(key) == when:
                if when > now:
                    return when - now
                del self._wake[key]
                self.add(key)
            heapq.heappop(self._heap)
        return None

    async def _pause(self, seconds: float) -> None:
        """Sleep, or until an earlier wake-up comes in."""
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        earlier = asyncio.ensure_future(self._earlier.wait())
        try:
            await asyncio.wait((sleep, earlier), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            earlier.cancel()

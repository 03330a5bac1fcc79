"""Between a watch, which pushes, and a reader that must await."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Mailbox(Generic[Item]):
    """Items in order, from one writer to one reader; with more than `limit` waiting, the writer should wait too."""

    def __init__(self, limit: int) -> None:
        self.items: deque[Item] = deque()
        self._limit = limit
        self._ended = False
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    def put(self, items: Iterable[Item]) -> None:
        """Add items; does not block."""
        self.items.extend(items)
        self._arrived.set()

    @property
    def congested(self) -> bool:
        return len(self.items) > self._limit

    async def ready(self) -> None:
        """Return when the reader has caught up."""
        while self.congested:
            self._taken.clear()
            await self._taken.wait()

    def end(self) -> None:
        """Nothing more will be put."""
        self._ended = True
        self._arrived.set()

    async def arrival(self) -> bool:
        """Return when there are items to take; False at the end."""
        while not self.items and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        return bool(self.items)

    def taken(self) -> None:
        """Say that the reader has taken from `items`."""
        self._taken.set()

"""Pipes and terminals as async streams: nothing is read that nobody asked for, so a slow reader slows the program."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable

_CHUNK = 65536


class Descriptor:
    """A non-blocking file descriptor that is closed once. One reader and one writer at a time."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        os.set_blocking(number, False)

    @property
    def closed(self) -> bool:
        return self._number < 0

    def fileno(self) -> int:
        return self._number

    async def read(self) -> bytes:
        """The next bytes; empty at the end (a terminal whose other side is closed has ended, too)."""
        while not self.closed:
            try:
                return os.read(self._number, _CHUNK)
            except BlockingIOError:
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                return b""
        return b""

    async def chunks(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def write(self, data: bytes) -> None:
        """Write all of `data`; what nobody reads any more is dropped."""
        rest = memoryview(data)
        while rest and not self.closed:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:
                await self._wait(self._loop.add_writer, self._loop.remove_writer)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                return

    async def _wait(self, add: Callable[..., None], remove: Callable[[int], object]) -> None:
        number = self._number
        ready: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(ready)
        add(number, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._waiting.discard(ready)
            if self._number == number:
                remove(number)

    def close(self) -> None:
        """Close it; whoever waits on it sees the end."""
        if self.closed:
            return
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)
        os.close(self._number)
        self._number = -1
        for ready in self._waiting:
            if not ready.done():
                ready.set_result(None)

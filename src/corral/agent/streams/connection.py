"""A SPDY connection as streams that can be read and written: the shell around `spdy.Session`.

A stream that its reader does not empty makes the connection stop reading, so that the peer is held back and nothing
grows without bound; a stream that nobody wants is emptied by itself (`discard`).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from corral.agent.streams import spdy

_ROOM = 256 * 1024
# A client that was killed with unsent input cannot even say that it ended: its kernel has that to send first, and we do
# not read. But it answers whatever it gets for a dead process with a reset (RFC 1122, 4.2.2.13), so it gets something.
_PING_AFTER = 2.0


class Bytes(Protocol):
    """What carries the frames: a raw connection, or a WebSocket used as a tunnel."""

    lost: asyncio.Event
    """Set when the peer is gone, even while nobody reads."""

    async def read(self) -> bytes:
        """The next piece; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send; waits while the peer is slow."""

    def close(self) -> None:
        """End the connection; what was written is still sent."""


class Stream:
    """One stream of the peer's, accepted."""

    def __init__(self, connection: "Connection", number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._discarding = False
        self._lost = False
        # One event for each side's wait, each told by `_settle` from the state alone: sharing one would lose a wake-up.
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._settle()

    async def read(self) -> bytes:
        """The next piece; empty when the peer sends no more. For one reader at a time."""
        await self._readable.wait()
        if not self._chunks:
            return b""
        data = self._chunks.popleft()
        self._size -= len(data)
        self._settle()
        self._connection.consumed(self.number, len(data))
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        """Everything that the peer sends."""
        while data := await self.read():
            yield data

    async def write(self, data: bytes) -> None:
        """Send.

        Raises:
            ConnectionError: the stream or the connection is closed.
        """
        await self._connection.send(self.number, data)

    async def finish(self) -> None:
        """Send no more; what the peer sends can still be read."""
        await self._connection.finish(self.number)

    def discard(self) -> None:
        """Nobody will read: throw away what is there and what will come."""
        self._discarding = True
        self._connection.consumed(self.number, self._size)
        self._chunks.clear()
        self._size = 0
        self._settle()

    async def feed(self, data: bytes, fin: bool) -> None:
        """Called by the connection; waits while there is no room."""
        if self._discarding:
            self._connection.consumed(self.number, len(data))
        elif data:
            self._chunks.append(data)
            self._size += len(data)
        self._ended = self._ended or fin
        self._settle()
        while not self._writable.is_set():
            try:
                await asyncio.wait_for(self._writable.wait(), _PING_AFTER)
            except TimeoutError:
                self._connection.ping()

    def end(self) -> None:
        """Called by the connection when the stream is lost."""
        self._ended = self._lost = True
        self._settle()

    def _settle(self) -> None:
        for event, holds in (
            (self._readable, bool(self._chunks) or self._ended),
            (self._writable, self._size <= _ROOM or self._discarding or self._lost),
        ):
            if holds:
                event.set()
            else:
                event.clear()


class Connection:
    """The server's end of a SPDY connection. `gone` is set when the peer can no longer be reached."""

    def __init__(self, transport: Bytes) -> None:
        self.gone = asyncio.Event()
        self._transport = transport
        self._session = spdy.Session()
        self._streams: dict[int, Stream] = {}
        self._sending = asyncio.Lock()
        self._more = asyncio.Event()
        self._window = asyncio.Event()

    async def run(self, opened: Callable[[Stream], Awaitable[None]]) -> None:
        """Read until the connection ends; call `opened` for each stream of the peer's, once it is accepted.

        `opened` must not wait long: nothing is read meanwhile.
        """
        helpers = [
            asyncio.create_task(self._flush_when_asked(), name="spdy flush"),
            asyncio.create_task(self._notice_loss(), name="spdy loss"),
        ]
        try:
            while data := await self._transport.read():
                for event in self._session.receive(data):
                    await self._handle(event, opened)
                self._more.set()
        except spdy.SpdyError:
            await self._flush_now()
            raise
        except ConnectionError:
            pass
        finally:
            self._end()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _notice_loss(self) -> None:
        # The reading may be waiting for a stream's reader, and would find out too late.
        await self._transport.lost.wait()
        self._end()

    async def _handle(self, event: spdy.Event, opened: Callable[[Stream], Awaitable[None]]) -> None:
        match event:
            case spdy.Opened(number, headers, fin):
                stream = self._streams[number] = Stream(self, number, headers)
                self._session.reply(number, {})
                if fin:
                    await stream.feed(b"", True)
                self._more.set()
                await opened(stream)
            case spdy.Received(number, data, fin):
                stream_or_none = self._streams.get(number)
                if stream_or_none is not None:
                    await stream_or_none.feed(data, fin)
            case spdy.Reset(number, _):
                lost = self._streams.pop(number, None)
                if lost is not None:
                    lost.end()
                self._open_window()
            case spdy.WindowOpened():
                self._open_window()

    def _open_window(self) -> None:
        self._window.set()
        self._window = asyncio.Event()

    def _end(self) -> None:
        self.gone.set()
        for stream in self._streams.values():
            stream.end()
        self._open_window()

    async def send(self, number: int, data: bytes) -> None:
        """Send on a stream, waiting for the peer's window and for the transport."""
        view = memoryview(data)
        while view:
            async with self._sending:
                room = self._session.sendable(number)
                if self.gone.is_set() or not self._session.is_open(number):
                    raise ConnectionResetError("cannot send: the peer closed the stream")
                if room:
                    self._session.send(number, bytes(view[:room]))
                    view = view[room:]
                    await self._flush()
                    continue
                window = self._window
            await window.wait()

    async def finish(self, number: int) -> None:
        """Send no more on a stream."""
        async with self._sending:
            self._session.finish(number)
            with contextlib.suppress(ConnectionError):
                await self._flush()

    async def reset(self, number: int, status: int) -> None:
        """Refuse or give up a stream."""
        async with self._sending:
            self._session.reset(number, status)
            lost = self._streams.pop(number, None)
            if lost is not None:
                lost.end()
            with contextlib.suppress(ConnectionError):
                await self._flush()

    async def close(self) -> None:
        """Send what is still to be sent, and end the connection."""
        await self._flush_now()
        self._transport.close()

    def forget(self, number: int) -> None:
        """The stream is of no more interest to its user."""
        self._streams.pop(number, None)

    def consumed(self, number: int, size: int) -> None:
        """Called by streams."""
        if size:
            self._session.consumed(number, size)
            self._more.set()

    def ping(self) -> None:
        """Called by streams that hold the peer back."""
        self._session.ping()
        self._more.set()

    async def _flush(self) -> None:
        data = self._session.take()
        if data:
            await self._transport.write(data)

    async def _flush_now(self) -> None:
        async with self._sending:
            with contextlib.suppress(ConnectionError):
                await self._flush()

    async def _flush_when_asked(self) -> None:
        """Replies and window updates: sent apart from the reading, which must go on while sending waits."""
        while True:
            await self._more.wait()
            self._more.clear()
            await self._flush_now()

"""A connection after `101 Switching Protocols`: bytes both ways, with backpressure both ways.

aiohttp knows WebSocket as the only protocol to switch to. Its protocols can, however, be given a parser of one's own,
which then gets every byte: that is how `accept` (a server's handler) and `connect` (a client) take a connection over
for SPDY, for a tunnel, or for bytes that are merely passed on.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.http import StreamWriter

_HIGH = 256 * 1024
_LOW = 64 * 1024
_LOOK_AFTER = 2.0
# tcpi_state of TCP_INFO (linux/tcp.h, include/net/tcp_states.h): TCP_CLOSE after a reset, TCP_CLOSE_WAIT after a FIN.
_ENDED = (7, 8)


def is_gone(transport: asyncio.Transport | None) -> bool:
    """Whether the peer ended the connection, as the kernel knows: a transport that is not read does not notice."""
    if transport is None or transport.is_closing():
        return True
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        state: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:
        return True
    return state in _ENDED


class Inbound:
    """What arrives, in a buffer that stops the transport when it is full. The parser that aiohttp feeds.

    With `impatient` a peer that ends the connection is lost at once, even if a full buffer keeps its last bytes from
    being read: right for clients, who wait for the answer as long as they live.
    """

    def __init__(self, transport: asyncio.Transport, *, impatient: bool = False) -> None:
        self.lost = asyncio.Event()
        self._impatient = impatient
        self._check: asyncio.TimerHandle | None = None
        self._transport = transport
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Called by aiohttp with each piece that arrived."""
        if data:
            self._chunks.append(data)
            self._size += len(data)
            if self._size > _HIGH and not self._paused and not self._transport.is_closing():
                self._paused = True
                self._transport.pause_reading()
                self._check_later()
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """Called by aiohttp when the connection is lost."""
        self.lost.set()
        if self._check is not None:
            self._check.cancel()
        self._wake()

    def _check_later(self) -> None:
        if self._impatient:
            self._check = asyncio.get_running_loop().call_later(_LOOK_AFTER, self._look_after)

    def _look_after(self) -> None:
        if not self._paused or self.lost.is_set():
            return
        if is_gone(self._transport):
            self._transport.abort()
            self.feed_eof()
        else:
            self._check_later()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self) -> bytes:
        """The next piece; empty when nothing will follow. For one reader at a time."""
        while not self._chunks:
            if self.lost.is_set():
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._paused and self._size <= _LOW and not self.lost.is_set() and not self._transport.is_closing():
            self._paused = False
            if self._check is not None:
                self._check.cancel()
            self._transport.resume_reading()
        return data


class RawConnection:
    """Bytes in both directions. `lost` is set as soon as the other side is known to be gone, read or not."""

    def __init__(
        self, inbound: Inbound, write: Callable[[bytes], Awaitable[None]], transport: asyncio.Transport
    ) -> None:
        self.lost = inbound.lost
        self._inbound = inbound
        self._write = write
        self._transport = transport

    async def read(self) -> bytes:
        """The next piece; empty at the end. For one reader at a time."""
        return await self._inbound.read()

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side is slow.

        Raises:
            ConnectionError: it is gone.
        """
        await self._write(data)

    def close(self) -> None:
        """End the connection; what was written is still sent."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()


async def accept(request: web.BaseRequest, headers: Mapping[str, str]) -> tuple[RawConnection, web.StreamResponse]:
    """Answer an upgrade request with 101 and take its connection over.

    The handler returns the response when it is done; aiohttp then closes the connection.

    Raises:
        ConnectionError: the client is gone.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("cannot take the connection over: the client is gone")
    inbound = Inbound(transport, impatient=True)
    response = web.StreamResponse(status=101, headers=headers)
    response.force_close()
    # Before the 101 leaves: what the client sends on it must not reach the HTTP parser.
    request.protocol.set_parser(inbound)  # type: ignore[arg-type]
    await response.prepare(request)
    return RawConnection(inbound, response.write, transport), response


def connect(response: ClientResponse) -> RawConnection:
    """Take over the connection of a response with status 101."""
    connection = response.connection
    if connection is None or connection.protocol is None or connection.transport is None:
        raise ConnectionResetError("cannot take the connection over: the server is gone")
    inbound = Inbound(connection.transport)
    connection.protocol.set_parser(inbound, None)
    writer = StreamWriter(connection.protocol, asyncio.get_running_loop())
    return RawConnection(inbound, writer.write, connection.transport)


class Hangup:
    """Notices that the client of a request went away, although nothing is read from it or written to it.

    It takes the connection over like an upgrade does, so the request's body must have been read, and the response must
    be the connection's last (`response.force_close()`).
    """

    def __init__(self, request: web.BaseRequest) -> None:
        self.gone = asyncio.Event()
        if request.transport is None:
            self.gone.set()
        else:
            request.protocol.set_parser(self)  # type: ignore[arg-type]

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """A pipelined request is dropped: the connection will be closed, and the client asks again."""
        return False, b""

    def feed_eof(self) -> None:
        """The connection is lost."""
        self.gone.set()

    async def run(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but cancel it when the client goes away; returns whether it was done.

        Raises what `work` raises.
        """
        task = asyncio.create_task(work, name="work for a client")
        left = asyncio.create_task(self.gone.wait(), name="client gone")
        try:
            await asyncio.wait((task, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            done = task.done()
            task.cancel()
            left.cancel()
            await asyncio.gather(task, left, return_exceptions=True)
        if done:
            task.result()
        return done


async def pipe(client: RawConnection, server: RawConnection) -> None:
    """Pass bytes both ways until the server has ended and all it said is delivered, or until the client is gone: then
    the server's connection is torn down, so that it knows as well."""
    forth = asyncio.create_task(_copy(client, server), name="pipe forth")
    back = asyncio.create_task(_copy(server, client), name="pipe back")
    lost = asyncio.create_task(client.lost.wait(), name="client lost")
    try:
        await asyncio.wait((forth, back, lost), return_when=asyncio.FIRST_COMPLETED)
        if forth.done() and not client.lost.is_set():
            # The server does not read any more; it may still be saying why.
            await asyncio.wait((back, lost), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if client.lost.is_set():
            server.abort()
        tasks = (forth, back, lost)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(source: RawConnection, target: RawConnection) -> None:
    while data := await source.read():
        try:
            await target.write(data)
        except ConnectionError:
            return

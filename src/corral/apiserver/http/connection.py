"""The lean lane: one connection, plain requests, prepared bytes.

A request is answered as soon as its last byte is there; answers that come from memory are written before
`data_received` returns, without a task. Requests that need more than this (streams, uploads, chunked bodies, odd heads)
are handed with everything unread to aiohttp's protocol, which keeps the connection from then on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from corral.apiserver.answers import refusal
from corral.apiserver.auth.api import ANONYMOUS, User
from corral.apiserver.context import Call, Reply
from corral.apiserver.decoding import BODY_LIMIT
from corral.apiserver.http.heads import (
    HEAD_LIMIT,
    LAST_CHUNK,
    STRANGER_LIMIT,
    Fields,
    Line,
    chunk,
    parse_fields,
    parse_line,
    response,
    watch_head,
)
from corral.apiserver.routing import split
from corral.apiserver.server import GROUP, Answer, ApiServer
from corral.apiserver.verbs.watch import Lines
from corral.apiserver.watching import Event, Watching
from corral.kinds.health import HEARTBEATS
from corral.kinds.status import StatusError, too_large, unauthorized

_HEAD_END = b"\r\n\r\n"
_TOO_LARGE_HEAD = StatusError(431, "RequestHeaderFieldsTooLarge", f"the request head is larger than {HEAD_LIMIT} bytes")
_OWN_GROUP = f"/apis/{GROUP}/"
_STREAM_ENDINGS = ("/log", "/exec", "/attach", "/portforward", "/proxy")
_READS = ("GET", "HEAD")
# A client that sends more than this ahead of its answers is made to wait.
_AHEAD = 256 * 1024


class Front(Protocol):
    """What a connection needs of the front it belongs to."""

    server: ApiServer
    connections: "set[Connection]"

    turns: asyncio.Semaphore
    """Writes wait here, except heartbeats."""

    @property
    def full(self) -> bool:
        """Whether there are as many connections as there may be."""

    @property
    def date(self) -> bytes:
        """The value of the Date field."""

    def identify(self, certificate: bytes, authorization: str) -> User:
        """Who asks. Raises StatusError 401."""

    def full_http(self) -> asyncio.Protocol:
        """A protocol of aiohttp's for one connection."""


class Connection(asyncio.Protocol):
    """One client connection in the lean lane."""

    def __init__(self, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        self._front = front
        self._server = front.server
        self._loop = loop
        self._transport: asyncio.Transport
        self.certificate = b""
        self._buffer = bytearray()
        self._needed = 0
        self._task: asyncio.Task[None] | None = None
        self._block = b""
        self._fields: Fields | None = None
        self._close = False
        self._stalled = False
        self._writable = asyncio.Event()
        self._writable.set()
        self.waiting_since: float = loop.time()
        """When the current wait for the client began; infinite while an answer is being made."""
        self.within_request = False
        """Whether a part of a request is there and the rest is not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport has the interface without the base class.
        self._transport = cast(asyncio.Transport, transport)
        if self._front.full:
            self._transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.certificate = tls.getpeercert(True) or b""
        self._front.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._front.connections.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if self._stalled and self._task is None:
            self._stalled = False
            self._continue()

    def eof_received(self) -> bool:
        # Half a request followed by the end is nothing; a request that is being answered still gets its answer.
        if self._task is None:
            self._transport.close()
        return False

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._stalled:
            self._buffer += data
            if len(self._buffer) > _AHEAD:
                self._transport.pause_reading()
            return
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        self._needed = 0
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Answer the requests in `data`, one after the other; what is left over waits in the buffer."""
        while data:
            if not self._writable.is_set():
                self._stall(data)
                return
            end = data.find(_HEAD_END)
            if end < 0:
                if len(data) > HEAD_LIMIT:
                    self._refuse(_TOO_LARGE_HEAD)
                    return
                self._wait_for_rest(data, len(data) + 1)
                return
            if end > HEAD_LIMIT:
                self._refuse(_TOO_LARGE_HEAD)
                return
            first = data.find(b"\r\n", 0, end + 2)
            try:
                line = parse_line(data[:first])
            except StatusError as error:
                self._refuse(error)
                return
            fields = self._read_fields(data[first + 2 : end])
            if line is None or fields is None or self._is_stream(line.path):
                self._hand_over(data)
                return
            whole = end + 4 + fields.content_length
            if fields.content_length > BODY_LIMIT:
                self._refuse(too_large(BODY_LIMIT))
                return
            if len(data) < whole:
                if fields.content_length > STRANGER_LIMIT and self._is_stranger(fields):
                    self._refuse(unauthorized())
                    return
                self._wait_for_rest(data, whole)
                return
            body, data = data[end + 4 : whole], data[whole:]
            self.within_request = False
            if not self._answer(line, fields, body):
                self._buffer += data
                return
        self.waiting_since = self._loop.time()

    def _stall(self, data: bytes) -> None:
        """The client does not read its answers: nothing more is read or answered until it does."""
        self._stalled = True
        self._buffer += data
        self._transport.pause_reading()
        self.waiting_since = self._loop.time()

    def _continue(self) -> None:
        self._transport.resume_reading()
        data = bytes(self._buffer)
        self._buffer.clear()
        self._take(data)

    def _is_stranger(self, fields: Fields) -> bool:
        try:
            return self._front.identify(self.certificate, fields.authorization) == ANONYMOUS
        except StatusError:
            return True

    def _wait_for_rest(self, data: bytes, needed: int) -> None:
        self._buffer += data
        self._needed = needed
        if not self.within_request:
            self.within_request = True
            self.waiting_since = self._loop.time()

    def _read_fields(self, block: bytes) -> Fields | None:
        # Clients send the same fields with every request of a connection.
        if block != self._block:
            self._fields = parse_fields(block)
            self._block = block
        return self._fields

    def _is_stream(self, path: str) -> bool:
        if path.startswith(_OWN_GROUP):
            target = split(path)
            return target is None or self._server.is_stream(target)
        return path.endswith(_STREAM_ENDINGS) or "/proxy/" in path

    def _answer(self, line: Line, fields: Fields, body: bytes) -> bool:
        """Answer a request; False if the answer takes time, and then the connection waits for it."""
        try:
            user = self._front.identify(self.certificate, fields.authorization)
        except StatusError as error:
            self._write(refusal(error), line.method, close=fields.close)
            return not fields.close
        call = Call(
            line.method,
            line.path,
            user,
            line.query,
            body,
            fields.content_type,
            fields.accept,
            fields.user_agent,
            fields.if_none_match,
        )
        if line.method in _READS or line.path.startswith(HEARTBEATS):
            answer = self._server.dispatch(call)
            if isinstance(answer, Reply):
                self._write(answer, line.method, close=fields.close)
                return not fields.close
            answering = self._finish(answer, line.method, fields.close)
        else:
            answering = self._answer_in_turn(call, fields.close)
        self.waiting_since = float("inf")
        self._task = self._loop.create_task(self._answer_later(answering))
        return False

    async def _answer_in_turn(self, call: Call, close: bool) -> None:
        """Begin with a write when its turn comes: many at once delay each other, and nothing else."""
        async with self._front.turns:
            await self._finish(self._server.dispatch(call), call.method, close)

    async def _finish(self, answer: Answer, method: str, close: bool) -> None:
        if isinstance(answer, Watching):
            await self._watch(answer)
        else:
            reply = await answer if isinstance(answer, Awaitable) else answer
            self._write(reply, method, close=close)

    async def _answer_later(self, answering: Awaitable[None]) -> None:
        await answering
        self._task = None
        if self._transport.is_closing():
            return
        self.waiting_since = self._loop.time()
        self._continue()

    async def _watch(self, watching: Watching) -> None:
        lines = Lines(self._server.core, watching.ctx)
        self._server.metrics.watchers += 1
        try:
            self._transport.write(watch_head(lines.content_type, self._front.date))
            await watching.run(WatchSink(self._transport, self._writable, lines))
            self._transport.write(LAST_CHUNK)
        finally:
            self._server.metrics.watchers -= 1

    def _write(self, reply: Reply, method: str, *, close: bool) -> None:
        self._transport.write(response(reply, self._front.date, body=method != "HEAD", close=close))
        if close:
            self._transport.close()

    def _refuse(self, error: StatusError) -> None:
        """Say why and hang up: what follows on the connection cannot be made sense of."""
        self._write(refusal(error), "", close=True)

    def time_out(self) -> None:
        """The client has waited too long: within a request it is told, between requests the connection just ends."""
        if self._stalled:
            self._transport.abort()
        elif self.within_request:
            self._refuse(StatusError(408, "Timeout", "the request did not arrive in time; send it again"))
        else:
            self._transport.close()

    def end(self) -> None:
        """Hang up when the server stops."""
        if self._task is not None:
            self._task.cancel()
        self._transport.close()

    def _hand_over(self, data: bytes) -> None:
        self._front.connections.discard(self)
        protocol = self._front.full_http()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)


class WatchSink:
    """Writes events of a watch as chunks; the chunk of an event is made once for all watchers of a format."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event, lines: Lines) -> None:
        self._write: Callable[[bytes], None] = transport.write
        self._writable = writable
        self._lines = lines

    def emit(self, events: Sequence[Event]) -> None:
        self._write(chunk(self._lines.encode(events)))

    @property
    def congested(self) -> bool:
        return not self._writable.is_set()

    async def ready(self) -> None:
        await self._writable.wait()

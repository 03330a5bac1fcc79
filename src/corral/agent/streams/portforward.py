"""Port forwarding: pairs of SPDY streams, each pair one TCP connection into the pod.

The client opens an `error` and a `data` stream with the same `requestID` and `port`. Bytes go both ways until both
directions have ended; whatever goes wrong is said on the error stream, and closing that one is the end.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from corral.agent.streams.connection import Connection, Stream
from corral.agent.streams.spdy import PROTOCOL_ERROR

log = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
_PIECE = 64 * 1024
# As kubelet: a pair whose second stream never comes is given up.
_PAIR_TIMEOUT = 30.0

Dial: TypeAlias = Callable[[int], Awaitable[socket.socket]]


@dataclass(slots=True)
class _Pair:
    port: int
    error: Stream | None = None
    data: Stream | None = None


class _Forwarder:
    """All pairs of one client."""

    def __init__(self, connection: Connection, dial: Dial) -> None:
        self._connection = connection
        self._dial = dial
        self._tasks: set[asyncio.Task[None]] = set()
        self._pairs: dict[str, _Pair] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def opened(self, stream: Stream) -> None:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("error", "data") or not port.isdecimal() or not 0 < int(port) < 65_536:
            log.info("refused a stream of type %r for port %r", kind, port)
            await self._connection.reset(stream.number, PROTOCOL_ERROR)
            return
        # Clients before requestID opened the data stream right after its error stream.
        number = stream.number if kind == "error" else stream.number - 2
        request = stream.headers.get("requestid", "") or str(number)
        pair = self._pairs.setdefault(request, _Pair(int(port)))
        if kind == "error":
            pair.error = stream
        else:
            pair.data = stream
        if pair.error is None or pair.data is None:
            loop = asyncio.get_running_loop()
            self._timers[request] = loop.call_later(_PAIR_TIMEOUT, self._give_up, request)
            return
        del self._pairs[request]
        self._timers.pop(request).cancel()
        self._start(self._forward(pair.port, pair.error, pair.data), f"forward {pair.port}")

    def _give_up(self, request: str) -> None:
        self._timers.pop(request, None)
        pair = self._pairs.pop(request, None)
        for stream in (pair.error, pair.data) if pair is not None else ():
            if stream is not None:
                self._start(self._connection.reset(stream.number, PROTOCOL_ERROR), "reset")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, port: int, error: Stream, data: Stream) -> None:
        error.discard()
        try:
            try:
                target = await self._dial(port)
            except OSError as failure:
                log.info("cannot forward port %d: %s", port, failure)
                await error.write(f"error forwarding port {port}: {failure.strerror or failure}".encode())
                data.discard()
            else:
                with target:
                    await _join(data, target)
        except ConnectionError:
            log.debug("the client of a forwarded connection to port %d went away", port)
        finally:
            await data.finish()
            await error.finish()
            self._connection.forget(data.number)
            self._connection.forget(error.number)


async def serve(connection: Connection, dial: Dial) -> None:
    """Forward until the client is gone, and end what is left of its connections then.

    Raises:
        SpdyError: the client broke the protocol.
    """
    forwarder = _Forwarder(connection, dial)
    try:
        await connection.run(forwarder.opened)
    finally:
        await forwarder.close()
        await connection.close()


async def _join(data: Stream, target: socket.socket) -> None:
    """Copy both ways. The pod's end of sending ends the connection's answer; the client's end is passed on."""
    up = asyncio.create_task(_upward(data, target), name="forward up")
    try:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(target, _PIECE):
            await data.write(piece)
        await data.finish()
    except OSError as error:
        log.debug("a forwarded connection broke: %s", error)
    finally:
        data.discard()
        up.cancel()
        await asyncio.gather(up, return_exceptions=True)


async def _upward(data: Stream, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while piece := await data.read():
            await loop.sock_sendall(target, piece)
        target.shutdown(socket.SHUT_WR)

"""Remotecommand over a WebSocket: each message starts with the number of its stream.

In the base64 variants messages are text, the number is a digit and the rest is base64.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = 0, 1, 2, 3, 4
_CLOSE = 255
_QUEUED = 16
# kubectl before 1.34 reads messages while it still creates the streams they are for, and drops what comes too early
# (kubernetes/kubernetes#131203): nothing is sent for so many seconds after the upgrade.
_CLIENT_SETTLES = 0.05
_LOOK_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class Dialect:
    """One subprotocol."""

    version: int
    base64: bool = False


PROTOCOLS = {
    "v5.channel.k8s.io": Dialect(5),
    "v4.channel.k8s.io": Dialect(4),
    "v4.base64.channel.k8s.io": Dialect(4, True),
    "channel.k8s.io": Dialect(1),
    "base64.channel.k8s.io": Dialect(1, True),
}


class WebSocketClient:
    """`remotecommand.Client` over an accepted WebSocket. `run` must be running while it is used; `is_lost` tells
    whether the connection below is gone."""

    def __init__(self, socket: web.WebSocketResponse, is_lost: Callable[[], bool]) -> None:
        self._is_lost = is_lost
        self.gone = asyncio.Event()
        self._socket = socket
        # A client that names no protocol speaks the first one.
        self._dialect = PROTOCOLS.get(socket.ws_protocol or "channel.k8s.io", Dialect(1))
        self.version = self._dialect.version
        self._inputs: dict[int, asyncio.Queue[bytes]] = {
            _STDIN: asyncio.Queue(_QUEUED),
            _RESIZE: asyncio.Queue(_QUEUED),
        }
        self._ended: set[int] = set()
        self._sending = asyncio.Lock()
        self._sends_from: float | None = asyncio.get_running_loop().time() + _CLIENT_SETTLES

    async def run(self) -> None:
        """Read messages until the client closes or goes away. An unread stdin holds the client back."""
        try:
            async for message in self._socket:
                if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                    break
                for channel, data in self._parse(message.data):
                    await self._input(channel, data)
        finally:
            self.gone.set()
            for queue in self._inputs.values():
                with contextlib.suppress(asyncio.QueueFull):
                    queue.put_nowait(b"")

    def _parse(self, data: bytes | str) -> list[tuple[int, bytes]]:
        if isinstance(data, str):
            if not self._dialect.base64:
                data = data.encode("utf-8", "surrogateescape")
            else:
                try:
                    return [(ord(data[0]) - ord("0"), base64.b64decode(data[1:]))] if data else []
                except (binascii.Error, ValueError):
                    return []
        return [(data[0], data[1:])] if data else []

    async def _input(self, channel: int, data: bytes) -> None:
        if channel == _CLOSE and self.version >= 5 and data:
            channel, data = data[0], b""
        elif not data:
            # Some clients greet with empty messages; only CLOSE ends a stream.
            return
        queue = self._inputs.get(channel)
        if queue is None or channel in self._ended:
            return
        if not data:
            self._ended.add(channel)
        while not self._is_lost():
            # Nobody looks at the connection while this waits; so now and then it is looked after. A client that was
            # killed with unsent input cannot say so, but its kernel answers the ping with a reset (RFC 1122, 4.2.2.13).
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(queue.put(data), _LOOK_AFTER)
                return
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(self._socket.ping(), _LOOK_AFTER)

    async def stdin(self) -> AsyncIterator[bytes]:
        async for data in self._read(_STDIN):
            yield data

    async def sizes(self) -> AsyncIterator[bytes]:
        async for data in self._read(_RESIZE):
            yield data

    async def _read(self, channel: int) -> AsyncIterator[bytes]:
        queue = self._inputs[channel]
        while not (self.gone.is_set() and queue.empty()):
            data = await queue.get()
            if not data:
                return
            yield data

    async def stdout(self, data: bytes) -> None:
        await self._send(_STDOUT, data)

    async def stderr(self, data: bytes) -> None:
        await self._send(_STDERR, data)

    async def greet(self) -> None:
        """An empty message, which tells waiting clients that the connection stands."""
        await self._send(_STDOUT, b"")

    async def _send(self, channel: int, data: bytes) -> None:
        if self._sends_from is not None:
            await self._settle()
        if self._dialect.base64:
            await self._socket.send_str(f"{channel}{base64.b64encode(data).decode('ascii')}")
        else:
            await self._socket.send_bytes(bytes((channel,)) + data)

    async def _settle(self) -> None:
        async with self._sending:
            if self._sends_from is not None:
                await asyncio.sleep(self._sends_from - asyncio.get_running_loop().time())
                self._sends_from = None

    async def finish(self, error: bytes) -> None:
        if error:
            await self._send(_ERROR, error)
        await self._socket.close()

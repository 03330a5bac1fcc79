"""A WebSocket as a plain stream of bytes, for SPDY inside it (kubectl 1.31 and later forward ports that way)."""

import asyncio

from aiohttp import WSMsgType, web


class WebSocketBytes:
    """`connection.Bytes` over an accepted WebSocket: the boundaries of messages mean nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.lost = asyncio.Event()
        self._socket = socket

    async def read(self) -> bytes:
        """The next message's bytes; empty when the client closed or is gone."""
        while True:
            message = await self._socket.receive()
            if message.type is not WSMsgType.BINARY:
                self.lost.set()
                return b""
            data: bytes = message.data
            if data:
                return data

    async def write(self, data: bytes) -> None:
        """Send one message."""
        await self._socket.send_bytes(data)

    def close(self) -> None:
        """Nothing: whoever accepted the WebSocket says goodbye."""

"""Streams of a container's main process, from conmon's attach socket.

conmon waits for whoever is attached, so a stream that is not read would in the end stop the container: what nobody
asked for is dropped beyond a small buffer, what somebody reads is waited for.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci import conmon

_PACKET = 65536
_CHUNKS = 64
_STDOUT = 2
_STDERR = 3
# conmon reads at most this much of a packet at once, and loses the rest.
_MOST_STDIN = 8192


class _Stream:
    """One output stream of the container."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS)
        self._wanted = False
        self._ended = asyncio.Event()

    async def put(self, data: bytes) -> None:
        if not self._wanted and self._chunks.full():
            self._chunks.get_nowait()
        await self._chunks.put(data)

    def end(self) -> None:
        self._ended.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        self._wanted = True
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            while True:
                chunk = asyncio.ensure_future(self._chunks.get())
                await asyncio.wait({chunk, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done():
                    chunk.cancel()
                    break
                yield chunk.result()
            while not self._chunks.empty():
                yield self._chunks.get_nowait()
        finally:
            self._wanted = False
            ended.cancel()


class Attachment:
    """The seam's Process for a container's main process."""

    def __init__(
        self,
        connection: socket.socket,
        bundle: Path,
        exit_code: Callable[[], Awaitable[int]],
        *,
        tty: bool,
        stdin: bool,
    ) -> None:
        self._connection = connection
        self._bundle = bundle
        self._exit_code = exit_code
        self._tty = tty
        self._stdin = stdin
        self._streams = {_STDOUT: _Stream(), _STDERR: _Stream()}
        if tty:
            self._streams[_STDERR].end()
        self._pump = asyncio.create_task(self._receive(), name=f"attach {bundle.name}")

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while packet := await loop.sock_recv(self._connection, _PACKET):
                stream = self._streams.get(packet[0])
                if stream is not None:
                    await stream.put(packet[1:])
        except ConnectionError:
            return
        finally:
            for stream in self._streams.values():
                stream.end()

    async def write_stdin(self, data: bytes) -> None:
        if not self._stdin:
            return
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), _MOST_STDIN):
            try:
                await loop.sock_sendall(self._connection, data[start : start + _MOST_STDIN])
            except (BrokenPipeError, ConnectionResetError):
                return

    async def close_stdin(self) -> None:
        if self._stdin:
            if self._tty:
                await self.write_stdin(b"\x04")
                return
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:  # the container has ended
                return

    def stdout(self) -> AsyncIterator[bytes]:
        return self._streams[_STDOUT].chunks()

    def stderr(self) -> AsyncIterator[bytes]:
        return self._streams[_STDERR].chunks()

    async def resize(self, width: int, height: int) -> None:
        if self._tty:
            conmon.resize(self._bundle, width, height)

    async def wait(self) -> int:
        return await self._exit_code()

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        self._connection.close()


async def connect(bundle: Path) -> socket.socket:
    """A connection to the attach socket in `bundle`, by a short path however long the real one is.

    Raises:
        RuntimeFailure: the container has ended.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    connection.setblocking(False)
    directory = os.open(bundle, os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{directory}/attach")
    except OSError as error:
        connection.close()
        raise RuntimeFailure("ContainerNotRunning", f"cannot attach: {error.strerror}") from error
    finally:
        os.close(directory)
    return connection

"""Streams of a container's main process, from conmon's attach socket.

conmon waits for whoever is attached, so a stream that is not read would in the end stop the container. What nobody
asked for is dropped beyond a small buffer. What somebody reads holds the container back to the reader's pace, as a
terminal does; but a reader who takes nothing for a while has left his seat, and the attachment ends without him.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci import conmon
from corral.base.clock import Clock

log = logging.getLogger(__name__)

_PACKET = 65536
_CHUNKS = 64
_STDOUT = 2
_STDERR = 3
# conmon reads at most this much of a packet at once, and loses the rest.
_MOST_STDIN = 8192
_PATIENCE = 5.0
"""Seconds for which a reader who takes nothing may hold the container back."""


class _Stream:
    """One output stream of the container."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_CHUNKS)
        self._wanted = False
        self._ended = asyncio.Event()

    async def put(self, data: bytes) -> bool:
        """Pass `data` on; False when its reader has not made room for too long."""
        if self._chunks.full():
            if self._wanted:
                return await self._put_in_time(data)
            self._chunks.get_nowait()
        self._chunks.put_nowait(data)
        return True

    async def _put_in_time(self, data: bytes) -> bool:
        putting = asyncio.ensure_future(self._chunks.put(data))
        patience = asyncio.ensure_future(self._clock.sleep(_PATIENCE))
        try:
            await asyncio.wait((putting, patience), return_when=asyncio.FIRST_COMPLETED)
            return putting.done()
        finally:
            putting.cancel()
            patience.cancel()

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
        clock: Clock,
        *,
        tty: bool,
        stdin: bool,
    ) -> None:
        self._connection = connection
        self._bundle = bundle
        self._exit_code = exit_code
        self._tty = tty
        self._stdin = stdin
        self._streams = {_STDOUT: _Stream(clock), _STDERR: _Stream(clock)}
        self._dropped = asyncio.Event()
        if tty:
            self._streams[_STDERR].end()
        self._pump = asyncio.create_task(self._receive(), name=f"attach {bundle.name}")

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while packet := await loop.sock_recv(self._connection, _PACKET):
                stream = self._streams.get(packet[0])
                if stream is not None and not await stream.put(packet[1:]):
                    self._drop()
                    return
        except ConnectionError:
            return
        finally:
            for stream in self._streams.values():
                stream.end()

    def _drop(self) -> None:
        """Let the container go on without a reader who does not read."""
        log.warning("an attachment to container %s was ended: its reader stopped reading", self._bundle.name)
        self._dropped.set()
        self._connection.shutdown(socket.SHUT_RDWR)

    async def write_stdin(self, data: bytes) -> None:
        if not self._stdin or self._dropped.is_set():
            return
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), _MOST_STDIN):
            try:
                await loop.sock_sendall(self._connection, data[start : start + _MOST_STDIN])
            except OSError:  # the container has ended, or the attachment was dropped
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
        """The container's exit code.

        Raises:
            RuntimeFailure: the attachment was ended before, because its streams were not read.
        """
        code, dropped = asyncio.ensure_future(self._exit_code()), asyncio.ensure_future(self._dropped.wait())
        try:
            await asyncio.wait((code, dropped), return_when=asyncio.FIRST_COMPLETED)
            if not self._dropped.is_set():
                return code.result()
        finally:
            code.cancel()
            dropped.cancel()
        raise RuntimeFailure(
            "AttachmentDropped",
            f"cannot go on with the attachment: nobody read it for {_PATIENCE:g} s",
            "what the container said since stands in its log",
        )

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

"""Remotecommand over SPDY: each of the five streams is a SPDY stream with the header `streamType`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from corral.agent.streams.connection import Connection, Stream
from corral.agent.streams.remotecommand import Options

PROTOCOLS = {
    "v4.channel.k8s.io": 4,
    "v3.channel.k8s.io": 3,
    "v2.channel.k8s.io": 2,
    "channel.k8s.io": 1,
}
HEADER = "X-Stream-Protocol-Version"
# Kubernetes' DefaultStreamCreationTimeout.
STREAM_CREATION_TIMEOUT = 30.0


def negotiate(offered: list[str]) -> str:
    """The newest version that both know; empty if there is none. Without an offer the client speaks the first one."""
    names = {name.strip() for value in offered for name in value.split(",")} - {""}
    if not names:
        return "channel.k8s.io"
    return next((protocol for protocol in PROTOCOLS if protocol in names), "")


class SpdyClient:
    """`remotecommand.Client` over a SPDY connection whose streams have all been opened."""

    def __init__(self, connection: Connection, streams: dict[str, Stream], version: int) -> None:
        self.version = version
        self.gone = connection.gone
        self._streams = streams

    async def stdin(self) -> AsyncIterator[bytes]:
        async for data in self._read("stdin"):
            yield data

    async def sizes(self) -> AsyncIterator[bytes]:
        async for data in self._read("resize"):
            yield data

    async def _read(self, name: str) -> AsyncIterator[bytes]:
        stream = self._streams.get(name)
        while stream is not None and (data := await stream.read()):
            yield data

    async def stdout(self, data: bytes) -> None:
        await self._write("stdout", data)

    async def stderr(self, data: bytes) -> None:
        await self._write("stderr", data)

    async def _write(self, name: str, data: bytes) -> None:
        stream = self._streams.get(name)
        if stream is not None and data:
            await stream.write(data)

    async def finish(self, error: bytes) -> None:
        if error:
            await self._streams["error"].write(error)
        for stream in self._streams.values():
            stream.discard()
            await stream.finish()


class Gathering:
    """Collects the streams that a client opens until all that its options need are there."""

    def __init__(self, connection: Connection, options: Options, version: int) -> None:
        self._connection = connection
        self._version = version
        self._needed = needed(options, version)
        self._streams: dict[str, Stream] = {}
        self._complete = asyncio.Event()

    async def opened(self, stream: Stream) -> None:
        """Take a stream; one of a type that is unknown or there already is emptied and ignored."""
        kind = stream.headers.get("streamtype", "")
        if kind in ("error", "stdin", "stdout", "stderr", "resize") and kind not in self._streams:
            self._streams[kind] = stream
        else:
            stream.discard()
        if self._needed <= self._streams.keys():
            self._complete.set()

    async def client(self) -> SpdyClient | None:
        """The client, or None if it did not open its streams in time or went away."""
        waits = [
            asyncio.create_task(self._complete.wait(), name="streams"),
            asyncio.create_task(self._connection.gone.wait(), name="client gone"),
        ]
        try:
            await asyncio.wait(waits, timeout=STREAM_CREATION_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*waits, return_exceptions=True)
        if not self._complete.is_set() or self._connection.gone.is_set():
            return None
        return SpdyClient(self._connection, self._streams, self._version)


def needed(options: Options, version: int) -> set[str]:
    """The types of the streams that a client with these options opens."""
    names = {"error"}
    for name, wanted in (("stdin", options.stdin), ("stdout", options.stdout), ("stderr", options.stderr)):
        if wanted:
            names.add(name)
    if options.tty and version >= 3:
        names.add("resize")
    return names

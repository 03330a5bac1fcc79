import asyncio
from collections.abc import AsyncIterator

import pytest

from corral.agent.streams.connection import Connection, Stream
from corral.agent.streams.spdy import Received, Session, SpdyError


class Wire:
    """The server's transport; the test holds the other end."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.client = Session(client=True)
        self.room = asyncio.Event()
        self.room.set()
        self.closed = False
        self._in: asyncio.Queue[bytes] = asyncio.Queue()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self._in.get()

    async def write(self, data: bytes) -> None:
        await self.room.wait()
        if self.lost.is_set():
            raise ConnectionResetError
        self._out.put_nowait(data)

    def close(self) -> None:
        self.closed = True

    def push(self) -> None:
        """Deliver what the client's session has to say."""
        self._in.put_nowait(self.client.take())

    def hang_up(self) -> None:
        self.lost.set()
        self._in.put_nowait(b"")

    @property
    def unread(self) -> int:
        return self._in.qsize()

    async def received(self, size: int) -> bytes:
        """Data of at least `size` bytes that reached the client."""
        data = b""
        while len(data) < size:
            for event in self.client.receive(await asyncio.wait_for(self._out.get(), 5)):
                if isinstance(event, Received):
                    data += event.data
        return data


class Served:
    """A connection that runs, and the streams it accepted."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.connection = Connection(wire)
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.task = asyncio.create_task(self.connection.run(self.streams.put))

    async def stream(self) -> Stream:
        self.wire.client.open({"a": "b"})
        self.wire.push()
        return await asyncio.wait_for(self.streams.get(), 5)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served(Wire())
    yield served
    served.task.cancel()
    await asyncio.gather(served.task, return_exceptions=True)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_reading_and_writing(served: Served) -> None:
    stream = await served.stream()
    served.wire.client.send(stream.number, b"ping")
    served.wire.client.finish(stream.number)
    served.wire.push()
    assert [chunk async for chunk in stream.chunks()] == [b"ping"]
    await stream.write(b"pong" * 20_000)
    assert await served.wire.received(80_000) == b"pong" * 20_000


async def test_an_unread_stream_holds_the_peer_back_and_a_discarded_one_does_not(served: Served) -> None:
    stream = await served.stream()
    for _ in range(40):
        served.wire.client.send(stream.number, bytes(32_768))
        served.wire.push()
    await settle()
    assert 25 < served.wire.unread < 40
    stream.discard()
    await settle()
    assert served.wire.unread == 0


async def test_a_slow_peer_holds_the_writer_back(served: Served) -> None:
    stream = await served.stream()
    served.wire.room.clear()
    writing = asyncio.create_task(stream.write(bytes(1_000_000)))
    await settle()
    assert not writing.done()
    served.wire.room.set()
    assert len(await served.wire.received(1_000_000)) == 1_000_000
    await writing


async def test_reading_goes_on_while_a_writer_waits(served: Served) -> None:
    stream = await served.stream()
    served.wire.room.clear()
    writing = asyncio.create_task(stream.write(bytes(1_000)))
    served.wire.client.send(stream.number, b"x")
    served.wire.push()
    assert await asyncio.wait_for(stream.read(), 5) == b"x"
    served.wire.room.set()
    await writing


async def test_a_lost_peer_ends_readers_and_writers(served: Served) -> None:
    stream = await served.stream()
    reading = asyncio.create_task(stream.read())
    await settle()
    served.wire.hang_up()
    assert await asyncio.wait_for(reading, 5) == b""
    assert served.connection.gone.is_set()
    with pytest.raises(ConnectionError):
        await stream.write(b"x")


async def test_a_lost_peer_is_noticed_while_nobody_reads(served: Served) -> None:
    stream = await served.stream()
    for _ in range(20):
        served.wire.client.send(stream.number, bytes(32_768))
        served.wire.push()
    await settle()
    assert not served.connection.gone.is_set()
    served.wire.lost.set()
    await asyncio.wait_for(served.connection.gone.wait(), 5)


async def test_a_peer_that_breaks_the_protocol_is_told(served: Served) -> None:
    served.wire.client._out.append(b"\x80\x02\x00\x01\x00\x00\x00\x00")
    served.wire.push()
    with pytest.raises(SpdyError):
        await asyncio.wait_for(asyncio.shield(served.task), 5)
    assert served.connection.gone.is_set()


async def test_a_window_that_opens_lets_the_writer_go_on(served: Served) -> None:
    stream = await served.stream()
    client = served.wire.client
    # Consuming shows flow control; from here on only 64 KiB are in flight.
    client.consumed(stream.number, 0)
    client._control_frame(9, 0, stream.number.to_bytes(4, "big") + (1).to_bytes(4, "big"))
    served.wire.push()
    await settle()
    writing = asyncio.create_task(stream.write(bytes(200_000)))
    got = 0
    while got < 200_000:
        data = await served.wire.received(1)
        got += len(data)
        client.consumed(stream.number, len(data))
        served.wire.push()
    await asyncio.wait_for(writing, 5)


async def test_a_reader_that_keeps_up_never_leaves_the_sender_waiting(served: Served) -> None:
    # The reader takes all there is and waits again before the sender has begun to wait.
    stream = await served.stream()

    async def drain() -> None:
        async for _ in stream.chunks():
            pass

    reading = asyncio.create_task(drain())
    await settle()
    feeding = asyncio.create_task(stream.feed(b"x" * 300_000, fin=False))
    await settle()
    assert feeding.done()
    await stream.feed(b"", fin=True)
    await reading

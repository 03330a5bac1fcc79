import contextlib
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.agent.streams import spdy
from corral.agent.streams.spdy import (
    Opened,
    Received,
    Replied,
    Reset,
    Session,
    SpdyError,
    WentAway,
    WindowOpened,
)
from corral.agent.streams.spdy_headers import DICTIONARY, HeaderCodec, HeaderError

NAMES = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=12)
HEADERS = st.dictionaries(NAMES, st.text(max_size=30), max_size=5)


def pair() -> tuple[Session, Session]:
    return Session(client=True), Session()


def opened(client: Session, server: Session, **headers: str) -> int:
    number = client.open(headers)
    assert server.receive(client.take()) == [Opened(number, headers, False)]
    server.reply(number, {})
    assert client.receive(server.take()) == [Replied(number, {}, False)]
    return number


def test_the_dictionary_is_the_specifications() -> None:
    # Draft 3.1 names the Adler-32 checksum that zlib shows for it.
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


@settings(deadline=None)
@given(st.lists(HEADERS, max_size=5))
def test_header_blocks_come_back(blocks: list[dict[str, str]]) -> None:
    one, other = HeaderCodec(), HeaderCodec()
    for headers in blocks:
        assert other.decode(one.encode(headers)) == headers


def test_names_are_sent_in_lower_case() -> None:
    assert HeaderCodec().decode(HeaderCodec().encode({"streamType": "stdin"})) == {"streamtype": "stdin"}


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0\0",
        struct.pack("!I", 1),
        struct.pack("!II", 1, 100) + b"x",
        struct.pack("!I", 0xFFFFFFFF) + b"x" * 100,
        struct.pack("!II", 1, 1) + b"\xff" + struct.pack("!I", 0),
        struct.pack("!I", 2) + (struct.pack("!I", 1) + b"a" + struct.pack("!I", 1) + b"b") * 2,
        bytes(200_000),
    ],
)
def test_damaged_header_blocks(plain: bytes) -> None:
    deflate = zlib.compressobj(zdict=DICTIONARY)
    block = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(HeaderError):
        HeaderCodec().decode(block)


def test_what_is_not_compressed_is_refused() -> None:
    with pytest.raises(HeaderError):
        HeaderCodec().decode(b"plain")


SENDS = st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=2_000)), max_size=12)


@settings(deadline=None)
@given(SENDS, st.lists(st.integers(1, 700), min_size=1, max_size=10))
def test_streams_arrive_whole_however_the_bytes_are_cut(sends: list[tuple[int, bytes]], cuts: list[int]) -> None:
    client, server = pair()
    numbers = [client.open({"n": str(n)}) for n in range(3)]
    for index, data in sends:
        client.send(numbers[index], data)
    for number in numbers:
        client.finish(number)
    wire = client.take()
    events: list[spdy.Event] = []
    position = turn = 0
    while position < len(wire):
        size = cuts[turn % len(cuts)]
        events += server.receive(wire[position : position + size])
        position, turn = position + size, turn + 1
    for index, number in enumerate(numbers):
        mine: list[Any] = [event for event in events if isinstance(event, Opened | Received) and event.stream == number]
        assert mine[0] == Opened(number, {"n": str(index)}, False)
        assert b"".join(event.data for event in mine[1:]) == b"".join(data for n, data in sends if n == index)
        assert [event.fin for event in mine].count(True) == 1
        assert mine[-1].fin


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_breaks_the_connection_and_nothing_else(noise: bytes) -> None:
    session = Session()
    try:
        session.receive(noise)
    except SpdyError:
        # A GOAWAY tells the peer.
        assert session.take().startswith(b"\x80\x03\x00\x07")


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 255), st.binary(max_size=60))
def test_noisy_frames_break_the_connection_and_nothing_else(kind: int, flags: int, payload: bytes) -> None:
    client, server = pair()
    opened(client, server, a="b")
    frame = struct.pack("!II", 0x80000000 | 3 << 16 | kind, flags << 24 | len(payload)) + payload
    with contextlib.suppress(SpdyError):
        server.receive(frame)


def test_the_server_talks_back() -> None:
    client, server = pair()
    number = opened(client, server, streamtype="stdout")
    server.send(number, b"hello")
    server.finish(number)
    assert client.receive(server.take()) == [Received(number, b"hello", False), Received(number, b"", True)]
    # The other half is still open.
    client.send(number, b"x")
    client.finish(number)
    assert server.receive(client.take()) == [Received(number, b"x", False), Received(number, b"", True)]
    assert not server.is_open(number)


def test_reset_ends_a_stream_both_ways() -> None:
    client, server = pair()
    number = opened(client, server, a="b")
    client.reset(number, spdy.CANCEL)
    assert server.receive(client.take()) == [Reset(number, spdy.CANCEL)]
    assert server.sendable(number) == 0
    assert not server.is_open(number)
    server.finish(number)
    assert server.take() == b""


def test_pings_come_back_once() -> None:
    server = Session()
    ping = struct.pack("!III", 0x80030006, 4, 7)
    assert server.receive(ping) == []
    assert server.take() == ping
    server.receive(struct.pack("!III", 0x80030006, 4, 8))
    assert server.take() == b""


def test_going_away() -> None:
    client, server = pair()
    client.go_away()
    assert server.receive(client.take()) == [WentAway(0)]


def test_stream_ids_only_grow_and_keep_their_parity() -> None:
    client, server = pair()
    client.open({})
    server.receive(client.take())
    client.open({})
    second = bytearray(client.take())
    second[8:12] = struct.pack("!I", 1)
    with pytest.raises(SpdyError, match="not the peer's next"):
        server.receive(bytes(second))
    wrong = Session()
    wrong.open({})
    with pytest.raises(SpdyError, match="not the peer's next"):
        Session().receive(wrong.take())


def test_too_many_streams_are_refused_one_by_one() -> None:
    client, server = Session(client=True), Session(limit=2)
    numbers = [client.open({}) for _ in range(3)]
    assert [event.stream for event in server.receive(client.take()) if isinstance(event, Opened)] == numbers[:2]
    assert client.receive(server.take()) == [Reset(numbers[2], spdy.REFUSED_STREAM)]


def test_large_and_foreign_frames() -> None:
    with pytest.raises(SpdyError, match="too large"):
        Session().receive(struct.pack("!II", 0x80030001, 0xFFFFFF))
    with pytest.raises(SpdyError, match="SPDY/3"):
        Session().receive(struct.pack("!II", 0x80020006, 4) + bytes(4))


def test_data_for_no_stream_is_answered_with_a_reset() -> None:
    client, server = pair()
    assert server.receive(struct.pack("!II", 9, 3) + b"abc") == []
    assert client.receive(server.take()) == []
    # The connection goes on.
    opened(client, server, a="b")


def test_a_peer_without_flow_control_is_not_held_back() -> None:
    client, server = pair()
    number = opened(client, server, a="b")
    for _ in range(10):
        room = server.sendable(number)
        assert room > 0
        server.send(number, bytes(room))


def test_a_peer_with_flow_control_is_obeyed() -> None:
    client, server = pair()
    number = opened(client, server, a="b")
    # A first WINDOW_UPDATE shows that the peer counts.
    server.receive(struct.pack("!IIII", 0x80030009, 8, number, 1))
    sent = 0
    while room := server.sendable(number):
        server.send(number, bytes(room))
        sent += room
    assert sent == 65_536
    events = client.receive(server.take())
    assert sum(len(event.data) for event in events if isinstance(event, Received)) == sent
    client.consumed(number, sent)
    assert set(server.receive(client.take())) == {WindowOpened(0), WindowOpened(number)}
    assert server.sendable(number) > 0


def test_settings_change_the_windows() -> None:
    client, server = pair()
    number = opened(client, server, a="b")
    server.receive(struct.pack("!IIIII", 0x80030004, 12, 1, 7, 10))
    assert server.sendable(number) == 10
    with pytest.raises(SpdyError):
        server.receive(struct.pack("!III", 0x80030004, 4, 5))


def test_windows_have_limits() -> None:
    client, server = pair()
    number = opened(client, server, a="b")
    update = struct.pack("!IIII", 0x80030009, 8, number, 0x7FFFFFFF)
    assert server.receive(update) == [Reset(number, spdy.FLOW_CONTROL_ERROR)]
    with pytest.raises(SpdyError):
        server.receive(struct.pack("!IIII", 0x80030009, 8, 0, 0x7FFFFFFF))
    with pytest.raises(SpdyError):
        Session().receive(struct.pack("!IIII", 0x80030009, 8, 1, 0))

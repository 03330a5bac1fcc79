"""SPDY/3.1 without I/O: bytes in, events out; calls in, bytes out.

One `Session` is one end of a connection. `receive` takes what arrived and returns what it meant; the sending calls put
frames into a buffer that `take` empties. Both roles are here, because they differ in one bit of the stream ids.

Flow control: every byte that a reader has consumed is given back with `consumed`. The other way round, clients of
Kubernetes (moby/spdystream) neither send nor heed WINDOW_UPDATE, so the send window counts only from the moment at
which the peer shows that it knows it, by a WINDOW_UPDATE or by SETTINGS; before, TCP alone holds us back.

Source: SPDY Protocol, Draft 3.1.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from corral.agent.streams.spdy_headers import HeaderCodec, HeaderError


class _Kind(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


_FIN = 0x01
_UNIDIRECTIONAL = 0x02
_INITIAL_WINDOW_SIZE = 7
_WINDOW = 65_536
_LARGEST_WINDOW = (1 << 31) - 1
# Give back window in pieces, not byte by byte.
_GIVE_BACK = _WINDOW // 2
_LARGEST_CONTROL = 65_536
_LARGEST_DATA = 32_768

PROTOCOL_ERROR = 1
INVALID_STREAM = 2
REFUSED_STREAM = 3
CANCEL = 5
INTERNAL_ERROR = 6
FLOW_CONTROL_ERROR = 7
STREAM_ALREADY_CLOSED = 9
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR = 0, 1


class SpdyError(Exception):
    """The peer broke the protocol: the connection cannot go on. A GOAWAY is ready to be sent."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream; answer with `reply` or `reset`."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer accepted a stream of ours."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Received:
    """Data of a stream; with `fin` the peer sends no more on it. Say `consumed` when it is used."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave a stream up."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """More may be sent (on any stream if `stream` is 0)."""

    stream: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """The peer opens no more streams and takes none."""

    status: int


Event: TypeAlias = Opened | Replied | Received | Reset | WindowOpened | WentAway


@dataclass(slots=True)
class _Stream:
    send_window: int
    remote_open: bool = True
    local_open: bool = True
    unreturned: int = 0


@dataclass(slots=True)
class _Data:
    """A data frame that has not arrived completely."""

    stream: int
    left: int
    fin: bool


@dataclass(slots=True)
class Session:
    """One end of a SPDY connection. `limit` is how many streams the peer may have open at once."""

    client: bool = False
    limit: int = 1_000
    _codec: HeaderCodec = field(default_factory=HeaderCodec)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _buffer: bytearray = field(default_factory=bytearray)
    _out: list[bytes] = field(default_factory=list)
    _data: _Data | None = None
    _last_peer: int = 0
    _last_own: int = 0
    _windowed: bool = False
    _initial_window: int = _WINDOW
    _send_window: int = _WINDOW
    _unreturned: int = 0

    # What arrives.

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes that arrived mean.

        Raises:
            SpdyError: they break the protocol; `take` has the GOAWAY that says so.
        """
        self._buffer += data
        events: list[Event] = []
        try:
            while self._next(events):
                pass
        except (SpdyError, HeaderError, struct.error) as error:
            self.go_away(GOAWAY_PROTOCOL_ERROR)
            raise SpdyError(f"cannot read the peer's SPDY: {error}") from error
        return events

    def _next(self, events: list[Event]) -> bool:
        if self._data is not None:
            return self._read_data(self._data, events)
        if len(self._buffer) < 8:
            return False
        first, second = struct.unpack_from("!II", self._buffer)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first & 0x80000000:
            del self._buffer[:8]
            self._data = _Data(first, length, bool(flags & _FIN))
            return True
        if length > _LARGEST_CONTROL:
            raise SpdyError(f"a control frame of {length} bytes is too large")
        if len(self._buffer) < 8 + length:
            return False
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != 3:
            raise SpdyError(f"version {version} is not SPDY/3")
        payload = bytes(self._buffer[8 : 8 + length])
        del self._buffer[: 8 + length]
        self._control(kind, flags, payload, events)
        return True

    def _read_data(self, frame: _Data, events: list[Event]) -> bool:
        if frame.left and not self._buffer:
            return False
        data = bytes(self._buffer[: frame.left])
        del self._buffer[: len(data)]
        frame.left -= len(data)
        done = not frame.left
        if done:
            self._data = None
        stream = self._streams.get(frame.stream)
        if stream is None or not stream.remote_open:
            # Our RST or FIN crossed it on the wire: nobody reads it, but it counts for the connection's window.
            self._give_back(0, len(data))
            if done and frame.stream > self._last_peer and frame.stream % 2 != self._parity:
                self.reset(frame.stream, INVALID_STREAM)
            return True
        if done and frame.fin:
            stream.remote_open = False
        if data or (done and frame.fin):
            events.append(Received(frame.stream, data, done and frame.fin))
        self._forget(frame.stream)
        return True

    def _control(self, kind: int, flags: int, payload: bytes, events: list[Event]) -> None:
        match kind:
            case _Kind.SYN_STREAM:
                self._on_syn_stream(flags, payload, events)
            case _Kind.SYN_REPLY:
                self._on_syn_reply(flags, payload, events)
            case _Kind.RST_STREAM:
                number, status = struct.unpack("!II", payload)
                if self._streams.pop(number & 0x7FFFFFFF, None) is not None:
                    events.append(Reset(number & 0x7FFFFFFF, status))
            case _Kind.SETTINGS:
                self._on_settings(payload, events)
            case _Kind.PING:
                (number,) = struct.unpack("!I", payload)
                # A ping with the parity of the peer is the peer's own: send it back. Ours would be an answer.
                if number % 2 != self._parity:
                    self._control_frame(_Kind.PING, 0, payload)
            case _Kind.GOAWAY:
                _, status = struct.unpack("!II", payload)
                events.append(WentAway(status))
            case _Kind.HEADERS:
                # Later headers mean nothing in our protocols, but the zlib context must see them.
                self._codec.decode(payload[4:])
            case _Kind.WINDOW_UPDATE:
                self._on_window_update(payload, events)

    def _on_syn_stream(self, flags: int, payload: bytes, events: list[Event]) -> None:
        number = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF
        headers = self._codec.decode(payload[10:])
        if number % 2 == self._parity or number <= self._last_peer:
            raise SpdyError(f"stream id {number} is not the peer's next")
        self._last_peer = number
        if sum(1 for one in self._streams if one % 2 != self._parity) >= self.limit:
            self.reset(number, REFUSED_STREAM)
            return
        fin = bool(flags & _FIN)
        own = not flags & _UNIDIRECTIONAL
        self._streams[number] = _Stream(self._initial_window, remote_open=not fin, local_open=own)
        events.append(Opened(number, headers, fin))
        self._forget(number)

    def _on_syn_reply(self, flags: int, payload: bytes, events: list[Event]) -> None:
        number = struct.unpack_from("!I", payload)[0] & 0x7FFFFFFF
        headers = self._codec.decode(payload[4:])
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & _FIN:
            stream.remote_open = False
        events.append(Replied(number, headers, bool(flags & _FIN)))
        self._forget(number)

    def _on_settings(self, payload: bytes, events: list[Event]) -> None:
        (count,) = struct.unpack_from("!I", payload)
        if len(payload) < 4 + 8 * count:
            raise SpdyError("SETTINGS is cut short")
        for index in range(count):
            head, value = struct.unpack_from("!II", payload, 4 + 8 * index)
            if head & 0xFFFFFF == _INITIAL_WINDOW_SIZE:
                self._windowed = True
                for stream in self._streams.values():
                    stream.send_window += value - self._initial_window
                self._initial_window = value
                events.append(WindowOpened(0))

    def _on_window_update(self, payload: bytes, events: list[Event]) -> None:
        number, delta = (value & 0x7FFFFFFF for value in struct.unpack("!II", payload))
        if not delta:
            raise SpdyError("WINDOW_UPDATE of nothing")
        self._windowed = True
        if number == 0:
            self._send_window += delta
            if self._send_window > _LARGEST_WINDOW:
                raise SpdyError("the connection's window is too large")
        elif number in self._streams:
            stream = self._streams[number]
            stream.send_window += delta
            if stream.send_window > _LARGEST_WINDOW:
                self.reset(number, FLOW_CONTROL_ERROR)
                events.append(Reset(number, FLOW_CONTROL_ERROR))
                return
        events.append(WindowOpened(number))

    # What is sent.

    def take(self) -> bytes:
        """The bytes to be written to the connection, once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream of our own; returns its id."""
        self._last_own += 2 if self._last_own else (1 if self.client else 2)
        number = self._last_own
        self._streams[number] = _Stream(self._initial_window, local_open=not fin)
        block = self._codec.encode(headers)
        self._control_frame(_Kind.SYN_STREAM, _FIN if fin else 0, struct.pack("!IIBB", number, 0, 0, 0) + block)
        return number

    def reply(self, stream: int, headers: Mapping[str, str]) -> None:
        """Accept a stream of the peer's."""
        self._control_frame(_Kind.SYN_REPLY, 0, struct.pack("!I", stream) + self._codec.encode(headers))

    def sendable(self, stream: int) -> int:
        """How many bytes may be sent on the stream now; 0 also when it is closed for sending."""
        state = self._streams.get(stream)
        if state is None or not state.local_open:
            return 0
        if not self._windowed:
            return _LARGEST_DATA
        return max(0, min(state.send_window, self._send_window, _LARGEST_DATA))

    def is_open(self, stream: int) -> bool:
        """Whether something may still be sent on the stream, now or when the window opens."""
        state = self._streams.get(stream)
        return state is not None and state.local_open

    def send(self, stream: int, data: bytes) -> None:
        """Send at most `sendable` bytes."""
        self._frame(stream, 0, data)
        self._streams[stream].send_window -= len(data)
        self._send_window -= len(data)

    def finish(self, stream: int) -> None:
        """Send no more on the stream; does nothing if that was said."""
        state = self._streams.get(stream)
        if state is not None and state.local_open:
            state.local_open = False
            self._frame(stream, _FIN, b"")
            self._forget(stream)

    def reset(self, stream: int, status: int) -> None:
        """Give the stream up, both ways."""
        self._streams.pop(stream, None)
        self._control_frame(_Kind.RST_STREAM, 0, struct.pack("!II", stream, status))

    def ping(self) -> None:
        """Say something that the peer answers, or its kernel if there is no peer any more."""
        self._control_frame(_Kind.PING, 0, struct.pack("!I", 2 - self._parity))

    def go_away(self, status: int = GOAWAY_OK) -> None:
        """Say that no more streams are taken."""
        self._control_frame(_Kind.GOAWAY, 0, struct.pack("!II", self._last_peer, status))

    def consumed(self, stream: int, size: int) -> None:
        """`size` received bytes of the stream were used: the peer may send as many again."""
        self._give_back(stream, size)

    def _give_back(self, number: int, size: int) -> None:
        self._unreturned += size
        if self._unreturned >= _GIVE_BACK:
            self._control_frame(_Kind.WINDOW_UPDATE, 0, struct.pack("!II", 0, self._unreturned))
            self._unreturned = 0
        stream = self._streams.get(number)
        if stream is None or not stream.remote_open:
            return
        stream.unreturned += size
        if stream.unreturned >= _GIVE_BACK:
            self._control_frame(_Kind.WINDOW_UPDATE, 0, struct.pack("!II", number, stream.unreturned))
            stream.unreturned = 0

    @property
    def _parity(self) -> int:
        return 1 if self.client else 0

    def _forget(self, number: int) -> None:
        stream = self._streams.get(number)
        if stream is not None and not stream.remote_open and not stream.local_open:
            del self._streams[number]

    def _frame(self, stream: int, flags: int, data: bytes) -> None:
        self._out.append(struct.pack("!II", stream, flags << 24 | len(data)))
        self._out.append(data)

    def _control_frame(self, kind: int, flags: int, payload: bytes) -> None:
        self._out.append(struct.pack("!II", 0x80000000 | 3 << 16 | kind, flags << 24 | len(payload)))
        self._out.append(payload)

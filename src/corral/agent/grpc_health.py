"""grpc.health.v1.Health/Check over plain HTTP/2, just enough of it for a probe.

One request on one connection: preface, SETTINGS, HEADERS with literal HPACK fields (RFC 7541, 6.2.2), DATA with the
message. The answer's health is in its DATA frame; header compression of the answer need not be understood for that.
"""

import asyncio
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_SERVING = 1
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_LARGEST_FRAME = 1 << 14


async def check(host: str, port: int, service: str) -> tuple[bool, str]:
    """Whether `service` says SERVING, and if not, what it says.

    Raises:
        OSError: nobody answers. ValueError: the answer is not gRPC.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _request(f"{host}:{port}", service))
        await writer.drain()
        state = await _answer(reader, writer)
    except asyncio.IncompleteReadError as error:
        raise ValueError("the server closed the connection without a gRPC answer") from error
    finally:
        writer.close()
    if state is None:
        return False, "the server answered with an error: does it implement grpc.health.v1.Health?"
    return state == _SERVING, f"service unhealthy (responded with {_STATES.get(state, state)!r})"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _request(authority: str, service: str) -> bytes:
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/grpc.health.v1.Health/Check"),
        (b":authority", authority.encode()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"kube-probe/1.36"),
    ]
    headers = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
    name = service.encode()
    message = b"\x0a" + _integer(len(name)) + name if name else b""
    body = b"\x00" + struct.pack(">I", len(message)) + message
    return _frame(_HEADERS, _END_HEADERS, 1, headers) + _frame(_DATA, _END_STREAM, 1, body)


def _text(value: bytes) -> bytes:
    """An HPACK string of fewer than 127 bytes, or longer with its length continued."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    return b"\x7f" + _integer(len(value) - 127) + value


def _integer(value: int) -> bytes:
    """A base-128 varint, as HPACK and protocol buffers have it."""
    encoded = b""
    while value >= 128:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """The `status` of the health message; None if the stream ends without one."""
    body = b""
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags = head[3], head[4]
        if length > _LARGEST_FRAME:
            raise ValueError("the answer is not HTTP/2")
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            body += payload
        elif kind in (_RST_STREAM, _GOAWAY):
            return None
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            return _status(body)


def _status(body: bytes) -> int | None:
    """The health in a length-prefixed `HealthCheckResponse` (field 1, a varint; missing is 0)."""
    if len(body) < 5:
        return None
    message = body[5:]
    return message[1] if len(message) >= 2 and message[0] == 8 else 0

"""Request heads that the lean lane understands, and response heads.

The lean lane takes only what it is sure about: HTTP/1.1, a plain target, a body of declared length, no transfer coding,
no upgrade, no expectations. Anything else, malformed input included, is `None` here and goes to aiohttp, so that there
is one place that knows the rest of HTTP.
"""

import re
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import parse_qsl

import msgspec

from corral.apiserver.context import Reply
from corral.kinds.status import bad_request

HEAD_LIMIT = 64 * 1024
"""Bytes of a request head."""
STRANGER_LIMIT = 64 * 1024
"""Bytes of a body that are kept for somebody who has not proved who he is."""

_MOST_PARAMETERS = 256
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"})
_TARGET = re.compile(rb"/[!-\"$-~]*")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FULL_HTTP = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"content-encoding", b"te", b"trailer"})
_KNOWN = frozenset(
    {
        b"accept",
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"if-none-match",
        b"user-agent",
    }
)


class Fields(msgspec.Struct, frozen=True):
    """The header fields that verbs care about."""

    accept: str = ""
    authorization: str = ""
    content_length: int = 0
    content_type: str = ""
    if_none_match: str = ""
    user_agent: str = ""
    close: bool = False


class Line(msgspec.Struct, frozen=True):
    """A request line."""

    method: str
    path: str
    query: dict[str, str]


def parse_line(line: bytes) -> Line | None:
    """A request line, or None if it is not one that the lean lane takes.

    Raises:
        StatusError: 400, it has far too many parameters.
    """
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] != b"HTTP/1.1" or parts[0] not in _METHODS or not _TARGET.fullmatch(parts[1]):
        return None
    path, mark, query = parts[1].decode("ascii").partition("?")
    if "//" in path or "/." in path:
        return None
    return Line(parts[0].decode("ascii"), path, parse_query(query) if mark else {})


@lru_cache(maxsize=1024)
def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise bad_request(f"the request has more than {_MOST_PARAMETERS} parameters") from error
    for key, value in pairs:
        found.setdefault(key, value)
    return found


def parse_query(text: str) -> dict[str, str]:
    """Parameters by name; of several with one name the first counts. The result is shared: read it only.

    Raises:
        StatusError: 400, there are far too many.
    """
    if len(text) > 512:
        return _query.__wrapped__(text)
    return _query(text)


def parse_fields(block: bytes) -> Fields | None:
    """Header fields (without the request line), or None if there is anything that the lean lane does not take."""
    found: dict[bytes, str] = {}
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name in _FULL_HTTP or name.startswith(b"impersonate-") or not _NAME.fullmatch(name):
            return None
        if name in _KNOWN:
            if name in found:
                return None
            found[name] = value.strip(b" \t").decode("latin-1")
    length = found.get(b"content-length", "0")
    connection = found.get(b"connection", "").lower()
    if b"host" not in found or not (length.isascii() and length.isdigit()) or len(length) > 12:
        return None
    if connection not in ("", "keep-alive", "close") or b"\n" in block.replace(b"\r\n", b""):
        return None
    return Fields(
        found.get(b"accept", ""),
        found.get(b"authorization", ""),
        int(length),
        found.get(b"content-type", ""),
        found.get(b"if-none-match", ""),
        found.get(b"user-agent", ""),
        connection == "close",
    )


@lru_cache(maxsize=64)
def status_line(status: int) -> str:
    """`HTTP/1.1 200 OK` with its line end."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n"


@lru_cache(maxsize=128)
def _plain_head(status: int, content_type: str) -> bytes:
    return (
        f"{status_line(status)}Content-Type: {content_type}\r\nCache-Control: no-cache, private\r\nContent-Length: "
    ).encode("latin-1")


def response(reply: Reply, date: bytes, *, body: bool, close: bool) -> bytes:
    """A whole response; `date` is the value of the Date field."""
    extra = b"".join(b"%b: %b\r\n" % (name.encode("latin-1"), _safe(value)) for name, value in reply.headers)
    if close:
        extra += b"Connection: close\r\n"
    return b"%b%d\r\nDate: %b\r\n%b\r\n%b" % (
        _plain_head(reply.status, reply.content_type),
        len(reply.body),
        date,
        extra,
        reply.body if body else b"",
    )


def _safe(value: str) -> bytes:
    # Warnings quote names out of bodies: nothing of theirs may end a header.
    return value.replace("\r", " ").replace("\n", " ").encode("utf-8")


def watch_head(content_type: str, date: bytes) -> bytes:
    """The head of a watch, which is chunked."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nCache-Control: no-cache, private\r\nTransfer-Encoding: chunked\r\n"
        b"Date: %b\r\n\r\n" % (content_type.encode("latin-1"), date)
    )


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"

"""SPDY/3's compressed name/value blocks: one zlib context a direction, primed with the specification's dictionary.

Source: SPDY Protocol, Draft 3.1, section 2.6.10.
"""

import struct
import zlib
from collections.abc import Mapping

# The dictionary, as its authors made it: words with their length in front, then one run of frequent text.
# fmt: off
_WORDS = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection",
    "content-base", "content-encoding", "content-language", "content-length", "content-location", "content-md5",
    "content-range", "content-type", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "location",
    "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer", "retry-after",
    "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via", "warning",
    "www-authenticate", "method", "get", "status",
)
# fmt: on
_PHRASES = (*_WORDS, "200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_RUN = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack("!I", len(p)) + p.encode("ascii") for p in _PHRASES) + _RUN.encode("ascii")

# A port or a stream type takes a few dozen bytes; whatever inflates beyond this is an attack.
_LARGEST = 65_536


class HeaderError(ValueError):
    """A header block that cannot be read: the whole connection is lost, because its zlib context is."""


class HeaderCodec:
    """Both directions' contexts of one connection."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def encode(self, headers: Mapping[str, str]) -> bytes:
        """The block for `headers`; names become lower-case, a value with several parts has NULs between them."""
        parts = [struct.pack("!I", len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                data = text.encode("utf-8")
                parts += [struct.pack("!I", len(data)), data]
        return self._deflate.compress(b"".join(parts)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def decode(self, block: bytes) -> dict[str, str]:
        """The headers in `block`.

        Raises:
            HeaderError: it is damaged, or too large.
        """
        try:
            data = self._inflate.decompress(block, _LARGEST)
            if self._inflate.unconsumed_tail:
                raise HeaderError("a header block is too large")
            return _read_block(data)
        except (zlib.error, struct.error, UnicodeDecodeError) as error:
            raise HeaderError(f"a header block is damaged: {error}") from error


def _read_block(data: bytes) -> dict[str, str]:
    (count,) = struct.unpack_from("!I", data)
    position = 4
    texts: list[str] = []
    if count * 8 > len(data):
        raise HeaderError("a header block announces more headers than it has")
    for _ in range(2 * count):
        (length,) = struct.unpack_from("!I", data, position)
        position += 4
        if position + length > len(data):
            raise HeaderError("a header block is cut short")
        texts.append(data[position : position + length].decode("utf-8"))
        position += length
    headers = dict(zip(texts[::2], texts[1::2], strict=True))
    if len(headers) != count:
        raise HeaderError("a header block names a header twice")
    return headers

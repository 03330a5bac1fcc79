import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.apiserver.context import Reply
from corral.apiserver.http.heads import Line, chunk, parse_fields, parse_line, response

HOST = b"Host: a"


def test_a_plain_request_line() -> None:
    assert parse_line(b"GET /api/v1/pods?limit=5&limit=6&x= HTTP/1.1") == Line(
        "GET", "/api/v1/pods", {"limit": "5", "x": ""}
    )


@pytest.mark.parametrize(
    "line",
    [
        b"GET /x HTTP/1.0",
        b"GET  /x HTTP/1.1",
        b"GET x HTTP/1.1",
        b"GET http://a/x HTTP/1.1",
        b"OPTIONS /x HTTP/1.1",
        b"GET /x\x00 HTTP/1.1",
        b"GET /a/../b HTTP/1.1",
        b"GET //a HTTP/1.1",
        b"get /x HTTP/1.1",
        b"",
    ],
)
def test_lines_for_the_full_lane(line: bytes) -> None:
    assert parse_line(line) is None


def test_fields() -> None:
    fields = parse_fields(HOST + b"\r\nACCEPT:  a/b \r\nContent-Length: 12\r\nX-Other: y\r\nConnection: close")
    assert fields is not None
    assert (fields.accept, fields.content_length, fields.close) == ("a/b", 12, True)


@pytest.mark.parametrize(
    "block",
    [
        b"Accept: x",
        HOST + b"\r\nTransfer-Encoding: chunked",
        HOST + b"\r\nUpgrade: SPDY/3.1",
        HOST + b"\r\nConnection: Upgrade",
        HOST + b"\r\nExpect: 100-continue",
        HOST + b"\r\nContent-Encoding: gzip",
        HOST + b"\r\nContent-Length: -1",
        HOST + b"\r\nContent-Length: 1\r\nContent-Length: 2",
        HOST + b"\r\nContent-Length: 1, 2",
        HOST + b"\r\nContent-Length : 1",
        HOST + b"\r\n folded",
        HOST + b"\r\nno colon",
        HOST + b"\r\nA: b\nTransfer-Encoding: chunked",
        HOST + b"\r\nImpersonate-User: x",
    ],
)
def test_fields_for_the_full_lane(block: bytes) -> None:
    assert parse_fields(block) is None


@given(st.binary(max_size=200))
def test_nothing_breaks_the_parsers(data: bytes) -> None:
    parse_line(data)
    parse_fields(data)


def test_nothing_in_a_warning_ends_a_header() -> None:
    head = response(Reply(200, b"x", headers=(("Warning", "a\r\nSet-Cookie: b"),)), b"now", body=True, close=False)
    assert b"\r\nSet-Cookie" not in head


def test_a_head_request_gets_the_length_only() -> None:
    whole = response(Reply(200, b"12345"), b"now", body=False, close=True)
    assert b"Content-Length: 5\r\n" in whole
    assert whole.endswith(b"Connection: close\r\n\r\n")


def test_chunks() -> None:
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"

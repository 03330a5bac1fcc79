"""What somebody without credentials can make the server do: answer little, keep little, and never for long."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import RunningServer

_HEAD = b"Host: a\r\n"


@contextmanager
def connection(api: RunningServer, *, admin: bool = False) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(api.ca))
    if admin:
        context.load_cert_chain(api.cert, api.key)
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as raw:
        yield context.wrap_socket(raw, server_hostname="127.0.0.1")


def answer(stream: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(65_536)
        if not more:
            break
        data += more
    return data


_BEYOND = (
    *("/", "/api", "/apis", "/metrics", "/openapi/v2", "/api/v1/secrets", "/api/v1/nodes/a/proxy/pods", "/logs/"),
    *("//healthz", "/%68ealthz", "/version/../api", "/version/%2e%2e/api", "/healthz/..;/api", "/openid/v1/jwks"),
)


@pytest.mark.parametrize("path", _BEYOND)
def test_a_stranger_gets_health_and_version_only(api: RunningServer, path: str) -> None:
    with connection(api) as stream:
        stream.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\n" + _HEAD + b"\r\n")
        assert answer(stream).split()[1] == b"403"


def test_a_large_body_is_not_waited_for_without_credentials(api: RunningServer) -> None:
    with connection(api) as stream:
        stream.sendall(
            b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n" + _HEAD + b"Content-Length: 3000000\r\n\r\nx"
        )
        assert answer(stream).split()[1] == b"401"


def test_a_large_chunked_body_is_not_kept_without_credentials(api: RunningServer) -> None:
    with connection(api) as stream:
        stream.sendall(
            b"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n" + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        stream.sendall(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
        assert answer(stream).split()[1] == b"401"


def test_whoever_does_not_read_is_not_answered_on_and_on(api: RunningServer) -> None:
    """Requests in a pipeline, and nobody who reads the answers: the server stops reading, and goes on when it can."""
    with connection(api) as stream:
        request = b"GET /version HTTP/1.1\r\n" + _HEAD + b"\r\n"
        stream.settimeout(1)
        with pytest.raises(TimeoutError):
            _send_for_ever(stream, request * 500)
        stream.settimeout(10)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 1_000:
            received += stream.recv(1 << 20)


def _send_for_ever(stream: ssl.SSLSocket, data: bytes) -> None:
    for _ in range(10_000):
        stream.sendall(data)


def test_too_many_parameters_are_a_refusal(api: RunningServer) -> None:
    query = "&".join(f"a{i}=1" for i in range(300)).encode()
    for extra in (b"", b"TE: trailers\r\n"):
        with connection(api) as stream:
            stream.sendall(b"GET /version?" + query + b" HTTP/1.1\r\n" + _HEAD + extra + b"\r\n")
            assert answer(stream).split()[1] == b"400"


@pytest.mark.parametrize("body", ["[" * 100_000, "{a: " * 100_000, "a: &a [*a]"])
def test_hostile_yaml_is_a_refusal(api: RunningServer, body: str) -> None:
    with connection(api, admin=True) as stream:
        head = f"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        stream.sendall(head.encode() + b"Content-Type: application/yaml\r\n\r\n" + body.encode())
        status = json.loads(answer(stream).partition(b"\r\n\r\n")[2])
        assert status["code"] == 400


def test_malformed_requests_do_not_fill_the_log(api: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    for request in (
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
    ):
        with connection(api) as stream:
            stream.sendall(request)
            assert answer(stream).split()[1] == b"400"
    assert not caplog.records

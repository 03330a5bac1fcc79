"""Connections stay in the fast lane: only what needs the connection itself takes it away, and for good."""

import socket
import ssl

import pytest

from .conftest import RunningServer


def ask(stream: ssl.SSLSocket, path: str) -> set[bytes]:
    """The names of the answer's fields: the full lane adds some."""
    stream.sendall(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    while b"\r\n\r\n" not in data:
        data += stream.recv(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.split()[1] == b"200"
    fields = {line.partition(b":")[0].lower(): line.partition(b":")[2] for line in head.split(b"\r\n")[1:]}
    length = int(fields[b"content-length"])
    while len(body) < length:
        body += stream.recv(65_536)
    return set(fields)


@pytest.mark.parametrize("path", ["/apis/corral.dev/v1/hostsubnets", "/apis/corral.dev/v1/hostsubnets?limit=1"])
def test_our_own_kinds_are_no_reason_to_leave_it(api: RunningServer, path: str) -> None:
    context = ssl.create_default_context(cafile=str(api.ca))
    context.load_cert_chain(api.cert, api.key)
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as raw:
        stream = context.wrap_socket(raw, server_hostname="127.0.0.1")
        usual = ask(stream, "/api/v1/namespaces")
        assert ask(stream, path) == usual
        assert ask(stream, "/api/v1/namespaces") == usual

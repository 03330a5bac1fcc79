"""Connections stay in the fast lane: only what needs the connection itself takes it away, and for good."""

import asyncio
import json
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


def create(stream: ssl.SSLSocket, path: str, made: dict[str, object]) -> None:
    """Send a create, without waiting for its answer."""
    body = json.dumps(made).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    stream.sendall(head.encode() + body)


def test_many_writes_delay_neither_reads_nor_heartbeats(api: RunningServer) -> None:
    context = ssl.create_default_context(cafile=str(api.ca))
    context.load_cert_chain(api.cert, api.key)
    assert api.front is not None
    assert api.loop is not None
    turns, api.front.turns = api.front.turns, asyncio.Semaphore(0)
    meta = {"name": "turns", "namespace": "default"}
    with (
        socket.create_connection(("127.0.0.1", api.port), timeout=10) as first,
        socket.create_connection(("127.0.0.1", api.port), timeout=10) as second,
    ):
        waiting = context.wrap_socket(first, server_hostname="127.0.0.1")
        other = context.wrap_socket(second, server_hostname="127.0.0.1")
        create(
            waiting,
            "/api/v1/namespaces/default/configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta},
        )
        ask(other, "/api/v1/namespaces")
        lease: dict[str, object] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "m1", "namespace": "kube-node-lease"},
        }
        create(other, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease)
        assert b" 201 " in other.recv(100)
        waiting.settimeout(0.2)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        # The ordinary writes begin when it is their turn.
        api.loop.call_soon_threadsafe(api.front.turns.release)
        waiting.settimeout(10)
        assert b" 201 " in waiting.recv(100)
        api.front.turns = turns

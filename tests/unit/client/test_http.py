"""The HTTP transport against a small server on the loopback."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise

import orjson
import pytest
from aiohttp import web

from corral.client.client import Client
from corral.client.discovery import discover
from corral.client.http import HttpTransport
from corral.kinds.resources import CONFIG_MAPS, LEASES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request with `handler`."""

    def __init__(self) -> None:
        self.handler: Handler = self._nothing
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.handler(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    transport = HttpTransport(server.url, token="t0ken")
    yield Client(transport, field_manager="tester")
    await transport.close()


def answers(body: object, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")

    return handler


def streams(*chunks: bytes) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return handler


async def test_verbs_become_requests(server: Server, client: Client) -> None:
    server.handler = answers({"kind": "ConfigMap", "metadata": {}})
    obj: Obj = {"metadata": {"name": "a b", "namespace": "n"}}
    await client.create(CONFIG_MAPS, obj)
    await client.delete(PODS, "p", "n", propagation="Foreground", uid="u", grace=0)
    await client.patch(CONFIG_MAPS, "a", [{"op": "remove", "path": "/data"}], "n")
    created, deleted, patched = server.requests
    assert (created.method, created.path) == ("POST", "/api/v1/namespaces/n/configmaps")
    assert created.query["fieldManager"] == "tester"
    assert created.headers["Authorization"] == "Bearer t0ken"
    assert orjson.loads(server.bodies[1]) == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "u"},
    }
    assert deleted.path == "/api/v1/namespaces/n/pods/p"
    assert patched.headers["Content-Type"] == "application/json-patch+json"


async def test_a_status_is_raised(server: Server, client: Client) -> None:
    status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such pod"}
    server.handler = answers(status, 404)
    with pytest.raises(StatusError, match="no such pod") as caught:
        await client.get(PODS, "p", "n")
    assert (caught.value.code, caught.value.reason) == (404, "NotFound")


async def test_an_answer_that_is_no_status_is_raised_too(server: Server, client: Client) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503, text="upstream is away")

    server.handler = handler
    with pytest.raises(StatusError, match="upstream is away") as caught:
        await client.get(PODS, "p", "n")
    assert caught.value.code == 503


async def test_watch_events_come_apart_at_line_ends_only(server: Server, client: Client) -> None:
    large = "x" * 3_000_000
    lines = b"".join(
        orjson.dumps({"type": "ADDED", "object": {"metadata": {"name": name}, "data": data}}) + b"\n"
        for name, data in (("a", "small"), ("b", large), ("c", "last"))
    )
    cuts = (0, 7, 60, 61, 1_000_000, 2_900_000, len(lines))
    server.handler = streams(*(lines[start:end] for start, end in pairwise(cuts)))
    async with client.watch(PODS, resource_version="5", timeout=10) as events:
        seen = [event async for event in events]
    assert [event.object["metadata"]["name"] for event in seen] == ["a", "b", "c"]
    assert seen[1].object["data"] == large
    query = server.requests[0].query
    assert (query["watch"], query["resourceVersion"], query["allowWatchBookmarks"]) == ("true", "5", "true")


async def test_a_refused_watch_is_raised_on_entering(server: Server, client: Client) -> None:
    server.handler = answers({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}, 410)
    with pytest.raises(StatusError, match="too old"):
        async with client.watch(PODS, resource_version="1"):
            pass


async def test_a_broken_stream_is_an_os_error(server: Server, client: Client) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "ADDED", "obj')
        assert request.transport is not None
        request.transport.abort()
        return response

    server.handler = handler
    async with client.watch(PODS) as events:
        with pytest.raises(OSError, match="cannot reach"):
            await anext(events)


async def test_nonsense_on_a_watch_is_an_os_error(server: Server, client: Client) -> None:
    server.handler = streams(b"<html>\n")
    async with client.watch(PODS) as events:
        with pytest.raises(OSError, match="cannot read the watch"):
            await anext(events)


async def test_nobody_there_is_an_os_error() -> None:
    transport = HttpTransport("http://127.0.0.1:1")
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await Client(transport).get(PODS, "p", "n")
    await transport.close()


async def test_discovery_prefers_versions_but_loses_no_resource(server: Server, client: Client) -> None:
    def row(name: str, kind: str) -> Obj:
        return {"name": name, "kind": kind, "namespaced": True, "verbs": ["list"]}

    pages: dict[str, Obj] = {
        "/apis": {
            "groups": [
                {
                    "name": "g",
                    "versions": [{"version": "v1beta1"}, {"version": "v1"}],
                    "preferredVersion": {"version": "v1"},
                }
            ]
        },
        "/api/v1": {"resources": [row("pods", "Pod"), row("pods/log", "Pod")]},
        "/apis/g/v1": {"resources": [row("things", "Thing")]},
        "/apis/g/v1beta1": {"resources": [row("things", "Thing"), row("olds", "Old")]},
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(pages[request.path])

    server.handler = handler
    found = {served.resource.path() for served in await discover(client)}
    assert found == {"/api/v1/pods", "/apis/g/v1/things", "/apis/g/v1beta1/olds"}


async def test_a_heartbeat_waits_for_no_other_call(server: Server) -> None:
    busy = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if "/leases/" not in request.path:
            await busy.wait()
        return web.json_response({"metadata": {"name": "m1"}})

    server.handler = slow
    transport = HttpTransport(server.url, connections=1)
    client = Client(transport)
    waiting = [asyncio.create_task(client.get(CONFIG_MAPS, "c", "default")) for _ in range(3)]
    async with asyncio.timeout(5):
        await client.get(LEASES, "m1", "kube-node-lease")
        assert not any(task.done() for task in waiting)
        assert len([request for request in server.requests if "/configmaps/" in request.path]) <= 1
        busy.set()
        await asyncio.gather(*waiting)
    await transport.close()


async def test_a_heartbeat_that_is_given_up_keeps_its_connection(server: Server) -> None:
    answer = asyncio.Event()
    connections: list[object] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        connections.append(request.transport)
        await answer.wait()
        return web.json_response({"metadata": {"name": "m1"}})

    server.handler = slow
    transport = HttpTransport(server.url)
    client = Client(transport)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.get(LEASES, "m1", "kube-node-lease")
    answer.set()
    while transport._going:
        await asyncio.gather(*transport._going)
    await client.get(LEASES, "m1", "kube-node-lease")
    assert len(connections) == 2
    assert connections[0] is connections[1]
    await transport.close()


async def test_a_heartbeat_whose_connection_is_closed_fails_and_cancels_nobody(server: Server) -> None:
    asked = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.handler = silent
    transport = HttpTransport(server.url)
    heartbeat = asyncio.create_task(Client(transport).get(LEASES, "m1", "kube-node-lease"))
    await asked.wait()
    await transport.close()
    await asyncio.wait({heartbeat})
    assert not heartbeat.cancelled(), "whoever keeps the lease would have ended for good"
    assert isinstance(heartbeat.exception(), OSError)


async def test_a_frozen_server_is_not_asked_for_ever_more_connections(server: Server) -> None:
    connections: list[object] = []

    async def frozen(request: web.Request) -> web.StreamResponse:
        connections.append(request.transport)
        await asyncio.sleep(3600)
        return web.Response()

    server.handler = frozen
    transport = HttpTransport(server.url)
    client = Client(transport)
    for _ in range(6):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(LEASES, "m1", "kube-node-lease")
    assert len(set(connections)) == 3
    waiting = asyncio.create_task(client.get(LEASES, "m1", "kube-node-lease"))
    await asyncio.sleep(0)
    await transport.close()
    with pytest.raises(ConnectionError, match="was closed"):
        await waiting


_ATTACH_FILTER = 26
_DROP_EVERYTHING = struct.pack("HBBI", 6, 0, 0, 0)
ACKNOWLEDGE = 0.3


def cut(ours: socket.socket) -> None:
    """From now on no packet reaches this socket (a classic BPF program that returns 0)."""
    program = ctypes.create_string_buffer(_DROP_EVERYTHING)
    ours.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


async def begun(client: Client) -> "asyncio.Task[None]":
    """A watch that stands; the task ends with it."""

    async def read() -> None:
        async with client.watch(PODS, "default") as events:
            opened.set()
            async for _ in events:
                pass

    opened = asyncio.Event()
    task = asyncio.create_task(read())
    async with asyncio.timeout(5):
        await opened.wait()
    return task


@pytest.fixture
async def connections(server: Server) -> list[socket.socket]:
    """The server's side of each request so far. Watches are silent; everything else is answered."""
    found: list[socket.socket] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        found.append(request.transport.get_extra_info("socket"))
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(3600)
        if "slow" in request.path:
            await asyncio.sleep(2 * ACKNOWLEDGE)
        return web.json_response({"metadata": {"name": "a"}})

    server.handler = handler
    return found


async def test_watches_outlast_a_server_that_is_slow_but_not_a_cut(
    server: Server, connections: list[socket.socket]
) -> None:
    transport = HttpTransport(server.url, acknowledge_seconds=ACKNOWLEDGE)
    client = Client(transport)
    watch = await begun(client)
    await client.get(CONFIG_MAPS, "slow", "default")
    cut(connections[-1])
    async with asyncio.timeout(10):
        with pytest.raises(OSError, match="timed out"):
            await client.patch(LEASES, "m1", {}, "kube-node-lease")
    assert not watch.done(), "there is nowhere else to go yet"
    later = await begun(client)
    await client.get(CONFIG_MAPS, "a", "default")
    async with asyncio.timeout(5):
        with pytest.raises(OSError):
            await watch
    await asyncio.sleep(0.05)
    assert not later.done(), "it was opened after the cut"
    later.cancel()
    await asyncio.wait({later})
    await transport.close()

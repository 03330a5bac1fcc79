"""The API over TLS with a bearer token: one server process, durable (SQLite), load from another process.

Prints creates/s, gets/s, list time and watch fan-out, and beside each the physical limit of the same run: a bare uvloop
TLS server that answers the same number of constant bytes to the same load. No peer is run here, because kube-apiserver
comes as no package; its figures are in the targets.

    python bench/api.py [--seconds S] [--memory] [--profile FILE]
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop

from corral.testing.ending import end_as_by_ctrl_c

HEAD_END = b"\r\n\r\n"
PADDING = "x" * 800


@dataclass(frozen=True)
class Result:
    """Requests of one run; durations in seconds."""

    requests: int
    seconds: float
    durations: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    def percentile(self, part: float) -> float:
        ordered = sorted(self.durations)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Loader(asyncio.Protocol):
    """One connection that sends the next request when the answer to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], done: Callable[["Loader", float], bool], expect: bytes) -> None:
        self._requests = requests
        self._done = done
        self._expect = expect
        self._received = 0
        self._whole = 0
        self._begin = 0.0
        self._buffer = b""
        self.transport: asyncio.Transport
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        self._received = self._whole = 0
        self._buffer = b""
        self._begin = time.perf_counter()
        self.transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if not self._whole:
            self._buffer += data
            end = self._buffer.find(HEAD_END)
            if end < 0:
                return
            if not self._buffer.startswith(self._expect):
                raise SystemExit(f"unexpected answer: {self._buffer[:400]!r}")
            at = self._buffer.index(b"Content-Length: ") + 16
            self._whole = end + 4 + int(self._buffer[at : self._buffer.index(b"\r", at)])
            self._received = len(self._buffer)
        else:
            self._received += len(data)
        if self._received >= self._whole and self._done(self, time.perf_counter() - self._begin):
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def load(
    port: int, context: ssl.SSLContext, requests: Iterator[bytes], connections: int, seconds: float, expect: bytes
) -> Result:
    """Keep `connections` requests in flight for `seconds`."""
    loop = asyncio.get_running_loop()
    durations: list[float] = []
    begin = end = 0.0

    def done(loader: Loader, duration: float) -> bool:
        durations.append(duration)
        if time.perf_counter() >= end:
            loader.transport.close()
            return False
        return True

    loaders = [
        (await loop.create_connection(lambda: Loader(requests, done, expect), "127.0.0.1", port, ssl=context))[1]
        for _ in range(connections)
    ]
    begin = time.perf_counter()
    end = begin + seconds
    for loader in loaders:
        loader.send()
    await asyncio.gather(*(loader.closed for loader in loaders))
    return Result(len(durations), time.perf_counter() - begin, durations)


class Watcher(asyncio.Protocol):
    """A watch that notes when a marker arrives."""

    def __init__(self, request: bytes, marker: bytes) -> None:
        self._request = request
        self._marker = marker
        self._tail = b""
        self.open = asyncio.get_running_loop().create_future()
        self.seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            self.open.set_result(None)
        self._tail = self._tail[-256:] + data
        if self._marker in self._tail and not self.seen.done():
            self.seen.set_result(time.perf_counter())


def get(path: str, token: str) -> bytes:
    """A GET as a client would send it."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        "Accept: application/json\r\nUser-Agent: bench/1\r\n\r\n"
    ).encode()


def post(path: str, token: str, body: bytes) -> bytes:
    """A POST as a client would send it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
        f"User-Agent: bench/1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def config_map(name: str, padding: str = "") -> bytes:
    """A ConfigMap in JSON."""
    return (
        f'{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"bench"}}}},'
        f'"data":{{"key":"value","padding":"{padding}"}}}}'
    ).encode()


COLLECTION = "/api/v1/namespaces/default/configmaps"


def creates(token: str, prefix: str) -> Iterator[bytes]:
    """Creates of ever new ConfigMaps."""
    return (post(COLLECTION, token, config_map(f"{prefix}-{number}")) for number in count())


def always(request: bytes) -> Iterator[bytes]:
    """The same request again and again."""
    while True:
        yield request


# --- the servers, each in a process of its own


async def serve_cell(directory: Path, pipe: Connection, durable: bool) -> None:
    """Store, authorization, API and front; ends when the pipe is closed."""
    from corral.apiserver.auth import bootstrap
    from corral.apiserver.auth.api import User
    from corral.apiserver.auth.authn import CellAuthenticator
    from corral.apiserver.auth.authorizer import CellAuthorizer
    from corral.apiserver.auth.pki import MASTERS, Pki
    from corral.apiserver.auth.tokens import TokenIssuer
    from corral.apiserver.http import HttpFront
    from corral.apiserver.inprocess import InProcessTransport
    from corral.apiserver.server import ApiServer
    from corral.base import memory
    from corral.base.clock import SystemClock
    from corral.client.client import Client
    from corral.kinds.registry import Registry
    from corral.kinds.resources import CLUSTER_ROLE_BINDINGS, SERVICE_ACCOUNTS
    from corral.store.memory import MemoryStore
    from corral.store.protocol import Store
    from corral.store.sqlite import SqliteStore

    clock = SystemClock()
    async with AsyncExitStack() as stack:
        pki = Pki.open(directory / "pki", hosts=[])
        store: Store = await SqliteStore.open(directory / "store.db") if durable else MemoryStore()
        stack.push_async_callback(store.close)
        tokens = TokenIssuer(pki.service_account_key, store, clock)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        server = ApiServer(
            store, Registry.builtin(), authorizer, clock=clock, rng=random.Random(), tokens=tokens, node_dialer=None
        )
        await server.start()
        stack.push_async_callback(server.stop)
        client = Client(InProcessTransport(server, User("bench", (MASTERS,))))
        for obj in bootstrap.objects():
            group, _, version = obj["apiVersion"].rpartition("/")
            kind = server.core.registry.by_kind(group, version, obj["kind"])
            assert kind is not None
            await client.create(kind.resource, obj)
        meta = {"name": "bench", "namespace": "default"}
        account = await client.create(
            SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        )
        # By a role, not as a master, so that every request goes through RBAC.
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "bench"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        }
        await client.create(CLUSTER_ROLE_BINDINGS, binding)
        uid = account["metadata"]["uid"]
        token, _ = tokens.issue("default", "bench", uid, audiences=[], seconds=86400, bound=None)
        front = HttpFront(server, CellAuthenticator(tokens, clock), pki.server_context())
        port = await front.start("127.0.0.1", 0)
        stack.push_async_callback(front.stop)
        memory.settle()
        pipe.send((port, token, pki.ca_pem))
        await asyncio.get_running_loop().run_in_executor(None, _wait, pipe)


class Constant(asyncio.Protocol):
    """Answers constant bytes to whatever ends in a head and its body: what TLS and the loop cost at the least."""

    size = 1024

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (self.size, b"x" * self.size)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)


async def serve_constant(directory: Path, pipe: Connection, size: int) -> None:
    """The bare TLS server."""
    from corral.apiserver.auth.pki import Pki

    pki = Pki.open(directory / "pki", hosts=[])
    Constant.size = size
    listener = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", 0, ssl=pki.server_context())
    pipe.send((listener.sockets[0].getsockname()[1], "x" * 900, pki.ca_pem))
    await asyncio.get_running_loop().run_in_executor(None, _wait, pipe)
    listener.close()


def _wait(pipe: Connection) -> None:
    try:
        pipe.recv()
    except EOFError:
        return


def _cell_process(directory: str, pipe: Connection, durable: bool, profile: str) -> None:
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.runcall(uvloop.run, serve_cell(Path(directory), pipe, durable))
        profiler.dump_stats(profile)
    else:
        uvloop.run(serve_cell(Path(directory), pipe, durable))


def _constant_process(directory: str, pipe: Connection, size: int) -> None:
    uvloop.run(serve_constant(Path(directory), pipe, size))


class Server:
    """A server process for the length of a `with` block."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        directory, *rest = arguments
        self._process = multiprocessing.get_context("spawn").Process(target=target, args=(directory, theirs, *rest))

    def __enter__(self) -> tuple[int, str, ssl.SSLContext]:
        self._process.start()
        port, token, ca = self._pipe.recv()
        context = ssl.create_default_context(cadata=ca.decode())
        return port, token, context

    def __exit__(self, *_: object) -> None:
        self._pipe.send("end")
        self._process.join(20)
        if self._process.is_alive():
            self._process.terminate()


# --- what is measured


def line(what: str, result: Result, limit: Result | None) -> None:
    """Print one measurement."""
    beside = f"   limit {limit.rate:>8,.0f}/s   ratio {result.rate / limit.rate:.2f}" if limit else ""
    times = f"p50 {result.percentile(0.5) * 1000:6.2f} ms  p99 {result.percentile(0.99) * 1000:6.2f} ms"
    print(f"{what:<34}{result.rate:>9,.0f}/s  {times}{beside}", flush=True)


async def measure_limit(port: int, token: str, context: ssl.SSLContext, seconds: float) -> dict[str, Result]:
    """The same loads against constant bytes."""
    found = {}
    for name, connections in (("create 64", 64), ("create 1", 1)):
        found[name] = await load(port, context, creates(token, "x"), connections, seconds, b"HTTP/1.1 200")
    request = always(get(f"{COLLECTION}/x", token))
    found["get 16"] = await load(port, context, request, 16, seconds, b"HTTP/1.1 200")
    return found


async def measure_cell(
    port: int, token: str, context: ssl.SSLContext, seconds: float, limits: dict[str, Result], watchers: int
) -> None:
    """All figures of the cell's API."""
    for connections in (64, 1):
        requests = creates(token, f"c{connections}")
        result = await load(port, context, requests, connections, seconds, b"HTTP/1.1 201")
        line(f"creates, {connections} connections", result, limits.get(f"create {connections}"))
    request = always(get(f"{COLLECTION}/c64-0", token))
    line("gets, 16 connections", await load(port, context, request, 16, seconds, b"HTTP/1.1 200"), limits.get("get 16"))
    await measure_list(port, token, context, seconds)
    await measure_fan_out(port, token, context, watchers)


async def measure_list(port: int, token: str, context: ssl.SSLContext, seconds: float) -> None:
    """Lists of 5,000 objects of about 1 KB, by one client and by two."""
    path = "/api/v1/namespaces/kube-public/configmaps"
    fill = (post(path, token, config_map(f"l-{number}", PADDING)) for number in range(5000))
    await fill_with(port, context, fill, 5000)
    request = get(path, token)
    for clients in (1, 2):
        result = await load(port, context, always(request), clients, seconds, b"HTTP/1.1 200")
        line(f"list of 5,000 x 1 KB, {clients} clients", result, None)


async def fill_with(port: int, context: ssl.SSLContext, requests: Iterator[bytes], total: int) -> None:
    """Send a number of requests over 32 connections."""
    loop = asyncio.get_running_loop()
    sent = iter(range(total - 32))

    def done(loader: Loader, duration: float) -> bool:
        if next(sent, None) is None:
            loader.transport.close()
            return False
        return True

    loaders = []
    for _ in range(32):
        made = await loop.create_connection(
            lambda: Loader(requests, done, b"HTTP/1.1 201"), "127.0.0.1", port, ssl=context
        )
        loaders.append(made[1])
    for loader in loaders:
        loader.send()
    await asyncio.gather(*(loader.closed for loader in loaders))


async def measure_fan_out(port: int, token: str, context: ssl.SSLContext, watchers: int, rounds: int = 5) -> None:
    """One write seen by many watchers: from sending it until the last has it."""
    loop = asyncio.get_running_loop()
    path = "/api/v1/namespaces/kube-system/configmaps"
    spans: list[float] = []
    middles: list[float] = []
    for number in range(rounds):
        marker = f"fan-{number}-{os.getpid()}"
        request = get(f"{path}?watch=1&resourceVersion=0", token)
        opened: list[Watcher] = []
        make = partial(Watcher, request, b'"name":"' + marker.encode())
        for _ in range(watchers):
            opened.append((await loop.create_connection(make, "127.0.0.1", port, ssl=context))[1])
        await asyncio.gather(*(watcher.open for watcher in opened))
        await asyncio.sleep(0.2)
        writes = iter([post(path, token, config_map(marker))])
        begin = time.perf_counter()
        await load(port, context, writes, 1, 0, b"HTTP/1.1 201")
        seen = await asyncio.gather(*(watcher.seen for watcher in opened))
        spans.append(max(seen) - begin)
        middles.append(statistics.median(seen) - begin)
        for watcher in opened:
            watcher.transport.close()
    print(
        f"one write to {watchers:,} watchers       last {min(spans) * 1000:.0f}-{max(spans) * 1000:.0f} ms, "
        f"median {statistics.median(middles) * 1000:.0f} ms (over {rounds} writes, with a new connection for each)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--memory", action="store_true", help="a store that is not durable")
    parser.add_argument("--profile", default="", help="write a profile of the server to this file")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="corral-bench-") as directory:
        with Server(_constant_process, directory, 512) as (port, token, context):
            limits = uvloop.run(measure_limit(port, token, context, min(options.seconds, 2.0)))
        with Server(_cell_process, directory, not options.memory, options.profile) as (port, token, context):
            uvloop.run(measure_cell(port, token, context, options.seconds, limits, options.watchers))


if __name__ == "__main__":
    main()

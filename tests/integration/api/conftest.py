"""A real API server over TLS, on a thread of its own, for clients that know nothing of asyncio."""

import asyncio
import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop

from corral.apiserver.auth import bootstrap, kubeconfig
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.http import HttpFront
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.sources import Sources
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.kinds.registry import Registry
from corral.kinds.resources import SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.store.memory import MemoryStore
from corral.store.protocol import Store
from corral.store.sqlite import SqliteStore

ADMIN = User("admin", (MASTERS, "system:authenticated"))


@dataclass
class RunningServer:
    """A server and how to reach it."""

    directory: Path
    port: int = 0
    ca: Path = Path()
    cert: Path = Path()
    key: Path = Path()
    kubeconfig: Path = Path()
    pki: Pki | None = None
    tokens: TokenIssuer | None = None
    server: ApiServer | None = None
    front: HttpFront | None = None
    loop: asyncio.AbstractEventLoop | None = None
    ready: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def token(self, account: str, namespace: str = "default") -> str:
        """A token of a service account that exists."""
        assert self.server is not None
        assert self.tokens is not None
        obj = self.server.core.find(SERVICE_ACCOUNTS, namespace, account)
        assert obj is not None
        return self.tokens.issue(namespace, account, obj["metadata"]["uid"], audiences=[], seconds=3600, bound=None)[0]


async def _serve(running: RunningServer, open_store: Callable[[Path], Awaitable[Store]], stop: asyncio.Event) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        pki = Pki.open(running.directory / "pki", hosts=[])
        store = await open_store(running.directory)
        stack.push_async_callback(store.close)
        tokens = TokenIssuer(pki.service_account_key, store, clock)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        server = ApiServer(
            store, Registry.builtin(), authorizer, clock=clock, rng=random.Random(1), tokens=tokens, node_dialer=None
        )
        await server.start()
        stack.push_async_callback(server.stop)
        await _fill(server)
        sources = Sources(running.directory / "sources", limit=1 << 20)
        server.extend(plural="sources", namespaced=True, verbs=("get", "create", "update"), handler=sources.handle)
        front = HttpFront(server, CellAuthenticator(tokens, clock), pki.server_context())
        running.port = await front.start("127.0.0.1", 0)
        stack.push_async_callback(front.stop)
        running.pki, running.tokens, running.server, running.front = pki, tokens, server, front
        running.loop = asyncio.get_running_loop()
        _write_files(running, pki)
        running.ready.set()
        await stop.wait()


async def _fill(server: ApiServer) -> None:
    client = Client(InProcessTransport(server, ADMIN))
    for obj in bootstrap.objects():
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        try:
            await client.create(kind.resource, obj)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
    await client.create(
        SERVICE_ACCOUNTS,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}},
    )


def _write_files(running: RunningServer, pki: Pki) -> None:
    cert, key = pki.issue_client("admin", [MASTERS], timedelta(hours=1))
    running.ca, running.cert, running.key = (running.directory / name for name in ("ca.crt", "admin.crt", "admin.key"))
    running.ca.write_bytes(pki.ca_pem)
    running.cert.write_bytes(cert)
    running.key.write_bytes(key)
    running.kubeconfig = running.directory / "kubeconfig"
    kubeconfig.write(running.kubeconfig, running.url, pki.ca_pem, cert, key, "test")


async def _memory(directory: Path) -> Store:
    return MemoryStore()


async def _sqlite(directory: Path) -> Store:
    return await SqliteStore.open(directory / "store.db")


STORES = {"memory": _memory, "sqlite": _sqlite}


@pytest.fixture(scope="package", params=sorted(STORES))
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A running server, one for each store."""
    running = RunningServer(tmp_path_factory.mktemp("api"))
    stop = asyncio.Event()

    def run() -> None:
        try:
            uvloop.run(_serve(running, STORES[request.param], stop))
        except BaseException as error:
            running.failure = error
        finally:
            running.ready.set()

    thread = threading.Thread(target=run, name="api server")
    thread.start()
    running.ready.wait(30)
    if running.failure is not None:
        thread.join()
        raise running.failure
    assert running.loop is not None
    yield running
    running.loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    assert not thread.is_alive()
    if running.failure is not None:
        raise running.failure


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """Requests as somebody, one connection each."""

    def __init__(self, running: RunningServer) -> None:
        self._running = running
        self._context = ssl.create_default_context(cafile=str(running.ca))
        self._admin = ssl.create_default_context(cafile=str(running.ca))
        self._admin.load_cert_chain(running.cert, running.key)

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """As the admin by certificate; by `token` if it is given, as nobody if that is empty."""
        context = self._admin if token is None else self._context
        connection = http.client.HTTPSConnection("127.0.0.1", self._running.port, context=context, timeout=20)
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            fields: dict[str, str] = {}
            for name, value in response.getheaders():
                fields[name] = f"{fields[name]}, {value}" if name in fields else value
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes as they are (and hang up sending, if `end`); everything that comes back."""
        with (
            socket.create_connection(("127.0.0.1", self._running.port), timeout=20) as plain,
            self._admin.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(data)
            if end:
                tls.unwrap()
                return b""
            answer = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while chunk := tls.recv(65536):
                    answer += chunk
            return answer


@pytest.fixture(scope="package")
def http_as(api: RunningServer) -> Http:
    """Plain HTTP to the running server."""
    return Http(api)


@pytest.fixture
def namespace(http_as: Http) -> str:
    """A namespace of the test's own, with the default service account that a controller would make."""
    made = http_as("POST", "/api/v1/namespaces", {"metadata": {"generateName": "t-"}}).json
    name: str = made["metadata"]["name"]
    http_as("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return name

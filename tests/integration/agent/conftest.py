"""A real API server with authorization and admission in this process, and an agent as `system:node:m1` on a runtime in
memory, with real time and real TLS between them."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from corral.agent import mounts
from corral.agent.agent import Agent, AgentConfig
from corral.apiserver.auth import bootstrap
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.http import HttpFront
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.streams import NodeDialer
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.kinds.registry import Registry
from corral.kinds.resources import CONFIG_MAPS, NAMESPACES, PODS, SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.store.memory import MemoryStore
from corral.testing.fake_runtime import FakeRuntime

ADMIN = User("admin", (MASTERS, "system:authenticated"))
NODE = User("system:node:m1", ("system:nodes", "system:authenticated"))


@dataclass
class Archives:
    """Uploaded sources in a dictionary."""

    held: dict[str, bytes] = field(default_factory=dict)

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.held[digest] = data
        return digest

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        into.write_bytes(self.held[digest])


@dataclass
class Cell:
    """Everything a test touches."""

    admin: Client
    runtime: FakeRuntime
    sources: Archives
    url: str
    ca: bytes
    certificate: tuple[Path, Path]
    build: Callable[[], Agent]
    agent: Agent

    async def restart_agent(self) -> None:
        await self.agent.stop()
        self.agent = self.build()
        await self.agent.start()

    async def pod(self, name: str = "web", **spec: Any) -> Obj:
        container = {"name": "main", "image": "host", "command": ["sleep", "3600"], "imagePullPolicy": "IfNotPresent"}
        obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "m1", "containers": [container], **spec},
        }
        return await self.admin.create(PODS, obj)

    async def until(self, name: str, wanted: Callable[[Obj], bool]) -> Obj:
        """The pod as soon as a watcher sees that it is as wanted."""
        async with asyncio.timeout(10):
            selector = f"metadata.name={name}"
            listed = await self.admin.list(PODS, "default", field_selector=selector)
            for item in listed["items"]:
                if wanted(item):
                    found: Obj = item
                    return found
            version = listed["metadata"]["resourceVersion"]
            async with self.admin.watch(PODS, "default", resource_version=version, field_selector=selector) as events:
                async for event in events:
                    if event.type == "MODIFIED" and wanted(event.object):
                        return event.object
        raise AssertionError(f"pod {name} did not become as wanted")

    async def first(self, resource: Resource, namespace: str, wanted: Callable[[Obj], bool]) -> Obj:
        """The first object that is as wanted, now or as soon as there is one."""
        async with asyncio.timeout(10):
            listed = await self.admin.list(resource, namespace)
            for item in listed["items"]:
                if wanted(item):
                    found: Obj = item
                    return found
            version = listed["metadata"]["resourceVersion"]
            async with self.admin.watch(resource, namespace, resource_version=version) as events:
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED") and wanted(event.object):
                        return event.object
        raise AssertionError(f"no such object among the {resource.plural}")

    async def gone(self, name: str) -> None:
        """Return when the pod is no longer in the API."""
        async with asyncio.timeout(10):
            listed = await self.admin.list(PODS, "default")
            if all(item["metadata"]["name"] != name for item in listed["items"]):
                return
            version = listed["metadata"]["resourceVersion"]
            async with self.admin.watch(PODS, "default", resource_version=version) as events:
                async for event in events:
                    if event.type == "DELETED" and event.object["metadata"]["name"] == name:
                        return


async def _fill(server: ApiServer, admin: Client) -> None:
    for obj in bootstrap.objects():
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        await _ensure(admin, kind.resource, obj)
    for name in ("default", "kube-node-lease"):
        await _ensure(admin, NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    metadata = {"name": "default", "namespace": "default"}
    await _ensure(admin, SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    metadata = {"name": "kube-root-ca.crt", "namespace": "default"}
    root = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": "CA"}}
    await _ensure(admin, CONFIG_MAPS, root)


async def _ensure(admin: Client, resource: Any, obj: Obj) -> None:
    try:
        await admin.create(resource, obj)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise


@pytest.fixture(autouse=True)
def nothing_stays_mounted(tmp_path: Path) -> Iterator[None]:
    """Fails the test that leaves a mount below its directory."""
    yield
    assert mounts.mounts_below(tmp_path) == []


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        pki = Pki.open(tmp_path / "pki", hosts=[])
        store = MemoryStore()
        tokens = TokenIssuer(pki.service_account_key, store, clock)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        dialer = NodeDialer(pki.client_context("kube-apiserver-kubelet-client", [MASTERS]))
        server = ApiServer(
            store, Registry.builtin(), authorizer, clock=clock, rng=random.Random(1), tokens=tokens, node_dialer=dialer
        )
        await server.start()
        stack.push_async_callback(server.stop)
        admin = Client(InProcessTransport(server, ADMIN))
        await _fill(server, admin)
        front = HttpFront(server, CellAuthenticator(tokens, clock), pki.server_context())
        port = await front.start("127.0.0.1", 0)
        stack.push_async_callback(front.stop)
        cert, key = pki.issue_client("admin", [MASTERS], timedelta(hours=1))
        files = (tmp_path / "admin.crt", tmp_path / "admin.key")
        files[0].write_bytes(cert)
        files[1].write_bytes(key)
        runtime = FakeRuntime(clock, tmp_path / "runtime")
        stack.callback(runtime.stop_all)
        sources = Archives()

        def build() -> Agent:
            config = AgentConfig("m1", tmp_path / "agent", "127.0.0.1", port=0, listen="127.0.0.1")
            return Agent(
                Client(InProcessTransport(server, NODE)),
                runtime,
                config,
                clock=clock,
                rng=random.Random(2),
                server_context=pki.server_context(),
                fetch_source=sources,
            )

        agent = build()
        await agent.start()
        made = Cell(admin, runtime, sources, f"https://127.0.0.1:{port}", pki.ca_pem, files, build, agent)
        # Ended agents leave their pods' volumes mounted, as they should; the test's directory must go.
        stack.callback(mounts.unmount_below, tmp_path)
        yield made
        await made.agent.stop()

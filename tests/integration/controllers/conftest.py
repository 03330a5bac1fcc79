"""A cell without machines: a real API over a store in memory, all controllers, and a coroutine that plays kubelet."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from corral.apiserver.auth import bootstrap
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import SystemClock, rfc3339
from corral.batch.all import controllers as queue_controllers
from corral.batch.controller import QueueController
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.controllers.all import controllers, user_of
from corral.fleet.all import controllers as repair_controllers
from corral.kinds.registry import Registry
from corral.kinds.resources import NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource
from corral.machinery.runner import Runner
from corral.store.memory import MemoryStore

SECONDS = 20.0
"""How long anything may take before a test gives up."""


class Kubelet:
    """Binds pods to `machine`, runs them, and ends them when they are deleted; `ends` says how a pod ends by itself."""

    def __init__(self, client: Client, clock: SystemClock) -> None:
        self.machine = "m1"
        self.ends: Callable[[Obj], str] = lambda pod: ""
        self.starts: Callable[[Obj], bool] = lambda pod: True
        self.binds = True
        """Whether it plays scheduler, too."""
        self._client = client
        self._clock = clock
        self._informer = Informer(client, PODS, clock=clock)
        self._due: asyncio.Queue[Key] = asyncio.Queue()
        self._informer.on_event(self._note)

    def _note(self, event: Event) -> None:
        if event.new is not None:
            self._due.put_nowait(event.key)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._informer.run())
            while True:
                key = await self._due.get()
                pod = self._informer.get(key)
                if pod is not None:
                    with suppress(StatusError):
                        await self._step(pod)

    async def _step(self, pod: Obj) -> None:
        metadata = pod["metadata"]
        name, namespace = metadata["name"], metadata["namespace"]
        phase = pod.get("status", {}).get("phase", "Pending")
        if metadata.get("deletionTimestamp"):
            if phase not in ("Succeeded", "Failed"):
                await self._set(pod, "Failed")
            await self._client.delete(PODS, name, namespace, grace=0)
        elif not pod["spec"].get("nodeName"):
            if not self.binds:
                return
            target = {"kind": "Node", "apiVersion": "v1", "name": self.machine}
            binding = {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": name}, "target": target}
            await self._client.create_subresource(PODS, name, namespace, "binding", binding)
        elif phase == "Pending" and self.starts(pod):
            await self._set(pod, "Running")
        elif phase == "Running" and (end := self.ends(pod)):
            await self._set(pod, end)

    async def _set(self, pod: Obj, phase: str) -> None:
        metadata = pod["metadata"]
        ready = "True" if phase == "Running" else "False"
        now = rfc3339(self._clock.now())
        status: Obj = {"phase": phase, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": now}]}
        await self._client.patch(
            PODS, metadata["name"], {"status": status}, metadata["namespace"], subresource="status"
        )


class Cell:
    """What the tests use."""

    def __init__(self, server: ApiServer, client: Client, kubelet: Kubelet, make_runner: Callable[[], Runner]) -> None:
        self.server = server
        self.client = client
        self.kubelet = kubelet
        self.remote_command: list[str] = []
        """What the server does about machines that do not answer."""
        self._make_runner = make_runner
        self._task: asyncio.Task[None] | None = None

    async def start_controllers(self) -> None:
        """Start all controllers and wait until they work."""
        self.runner = self._make_runner()
        self._task = asyncio.create_task(self.runner.run())
        async with asyncio.timeout(SECONDS):
            await self.runner.synced.wait()

    async def stop_controllers(self) -> None:
        """End all controllers in the middle of whatever they do."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(
        self, resource: Resource, name: str, check: Callable[[Obj], Any], namespace: str = "default"
    ) -> Obj:
        """Wait until the object fulfils `check`."""
        async with asyncio.timeout(SECONDS):
            found: Obj | None = None
            while True:
                listed = await self.client.list(resource, namespace, field_selector=f"metadata.name={name}")
                for found in listed["items"]:
                    if check(found):
                        return found
                version = listed["metadata"]["resourceVersion"]
                async with self.client.watch(
                    resource, namespace, resource_version=version, field_selector=f"metadata.name={name}"
                ) as events:
                    async for event in events:
                        if event.type in ("ADDED", "MODIFIED") and check(event.object):
                            return event.object

    async def until_gone(self, resource: Resource, name: str, namespace: str = "default") -> None:
        """Wait until there is no such object."""
        await self.until_list(resource, lambda items: all(i["metadata"]["name"] != name for i in items), namespace)

    async def until_list(
        self, resource: Resource, check: Callable[[list[Obj]], Any], namespace: str = "default", selector: str = ""
    ) -> list[Obj]:
        """Wait until the collection fulfils `check`."""
        async with asyncio.timeout(SECONDS):
            while True:
                listed = await self.client.list(resource, namespace, label_selector=selector)
                if check(listed["items"]):
                    items: list[Obj] = listed["items"]
                    return items
                version = listed["metadata"]["resourceVersion"]
                async with self.client.watch(
                    resource, namespace, resource_version=version, label_selector=selector
                ) as events:
                    async for event in events:
                        if event.type != "BOOKMARK":
                            break


def _as(server: ApiServer, name: str, *groups: str) -> Client:
    return Client(InProcessTransport(server, User(name, groups)))


async def _create_first_objects(server: ApiServer, client: Client) -> None:
    objects = bootstrap.objects()
    for obj in sorted(objects, key=lambda obj: bool(obj["kind"] != "Namespace")):
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        await client.create(kind.resource, obj)
    machine = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m1"}}
    await client.create(NODES, machine)


@pytest.fixture
async def cell() -> AsyncIterator[Cell]:
    clock = SystemClock()
    rng = random.Random(7)
    store = MemoryStore()
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    server = ApiServer(store, Registry.builtin(), authorizer, clock=clock, rng=rng, tokens=None, node_dialer=None)
    await server.start()
    admin = _as(server, "admin", MASTERS)
    await _create_first_objects(server, admin)

    def client_for(name: str) -> Client:
        return _as(
            server,
            user_of(name),
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
            "system:authenticated",
        )

    shared = _as(server, "system:kube-controller-manager", "system:authenticated")

    def make_runner() -> Runner:
        return Runner(
            shared,
            [
                *controllers(ca_pem="PEM", sign=lambda *asked: b"PEM"),
                *queue_controllers(QueueController()),
                *repair_controllers(lambda: made.remote_command),
            ],
            clock,
            rng=rng,
            client_for=client_for,
        )

    kubelet = Kubelet(admin, clock)
    task = asyncio.create_task(kubelet.run())
    made = Cell(server, admin, kubelet, make_runner)
    try:
        await made.start_controllers()
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.stop_controllers()
        await server.stop()
        await authorizer.stop()
        await store.close()

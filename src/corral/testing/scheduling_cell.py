"""A cell of a real API server over a store in memory and live schedulers, for tests: no agents, no controllers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from corral.apiserver.auth import bootstrap
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import Clock, SystemClock
from corral.client.client import Client
from corral.kinds import conditions
from corral.kinds.registry import Registry
from corral.kinds.resources import EVENTS, NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.scheduler.scheduler import Scheduler
from corral.store.memory import MemoryStore

ADMIN = User("admin", ("system:masters", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler", ("system:authenticated",))


class Cell:
    """A server, an administrator's client, and schedulers that end with the test."""

    def __init__(self, server: ApiServer, stack: AsyncExitStack) -> None:
        self.server = server
        self.client = Client(InProcessTransport(server, ADMIN))
        self._stack = stack

    async def schedule(
        self, transport: InProcessTransport | None = None, *, clock: Clock | None = None, **options: Any
    ) -> Scheduler:
        """Start a scheduler; `options` are further ones of its own."""
        client = Client(transport or InProcessTransport(self.server, SCHEDULER))
        scheduler = Scheduler(client, clock=clock or SystemClock(), rng=random.Random(1), **options)
        await self._stack.enter_async_context(_running(scheduler))
        return scheduler

    @asynccontextmanager
    async def scheduling(self) -> AsyncIterator[None]:
        """A scheduler for a while."""
        client = Client(InProcessTransport(self.server, SCHEDULER))
        async with _running(Scheduler(client, clock=SystemClock(), rng=random.Random(1))):
            yield

    async def add(self, *objects: Obj) -> None:
        """Create Nodes and pods."""
        for obj in objects:
            resource = PODS if obj["kind"] == "Pod" else NODES
            obj["metadata"].pop("uid", None)
            await self.client.create(resource, obj)

    async def until(self, name: str, holds: Callable[[Obj], bool]) -> Obj:
        """The pod, as soon as it is as wanted."""
        async with asyncio.timeout(20):
            listed = await self.client.list(PODS, "default", field_selector=f"metadata.name={name}")
            for found in listed["items"]:
                if holds(found):
                    return dict(found)
            version = listed["metadata"]["resourceVersion"]
            watch = self.client.watch(PODS, "default", resource_version=version, field_selector=f"metadata.name={name}")
            async with watch as events:
                async for event in events:
                    if holds(event.object):
                        return event.object
        raise AssertionError("the watch ended")

    async def bound(self, name: str) -> str:
        """Where the pod was bound, as soon as it is."""
        return str((await self.until(name, is_bound))["spec"]["nodeName"])

    async def refused(self, name: str, words: str = "") -> Obj:
        """The PodScheduled condition that says no, as soon as it is there and contains `words`."""

        def says_no(found: Obj) -> bool:
            condition = conditions.get(found, "PodScheduled") or {}
            return condition.get("status") == "False" and words in condition.get("message", "")

        return conditions.get(await self.until(name, says_no), "PodScheduled") or {}

    async def event(self, name: str, reason: str) -> Obj:
        """The pod's event for that reason, as soon as it is there."""
        selector = f"involvedObject.name={name},reason={reason}"
        async with asyncio.timeout(20):
            listed = await self.client.list(EVENTS, "default", field_selector=selector)
            if listed["items"]:
                return dict(listed["items"][0])
            version = listed["metadata"]["resourceVersion"]
            async with self.client.watch(
                EVENTS, "default", resource_version=version, field_selector=selector
            ) as events:
                async for event in events:
                    if event.type == "ADDED":
                        return event.object
        raise AssertionError("the watch ended")


def is_bound(found: Obj) -> bool:
    return bool(found["spec"].get("nodeName"))


@asynccontextmanager
async def _running(scheduler: Scheduler) -> AsyncIterator[None]:
    task = asyncio.create_task(scheduler.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def scheduling_cell() -> AsyncIterator["Cell"]:
    """A cell with nothing but what every cell begins with."""
    async with AsyncExitStack() as stack:
        store = MemoryStore()
        stack.push_async_callback(store.close)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        clock = SystemClock()
        server = ApiServer(
            store, Registry.builtin(), authorizer, clock=clock, rng=random.Random(1), tokens=None, node_dialer=None
        )
        await server.start()
        stack.push_async_callback(server.stop)
        cell = Cell(server, stack)
        await _fill(cell)
        yield cell


async def _fill(cell: Cell) -> None:
    """What every cell has: roles, namespaces, and the service account that pods run as."""
    account = {"name": "default", "namespace": "default"}
    for obj in (
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}},
        *bootstrap.objects(),
        {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": account},
    ):
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = cell.server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        try:
            await cell.client.create(kind.resource, obj)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

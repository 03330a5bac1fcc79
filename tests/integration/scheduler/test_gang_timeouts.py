"""No gang stays half bound: what the scheduler cannot finish is taken back when the group's time is over."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.client.api import ApiRequest, ApiResponse
from corral.client.client import Client
from corral.controllers.all import user_of
from corral.controllers.podgroups.controller import PodGroupController
from corral.kinds import conditions
from corral.kinds.podgroups import LABEL
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, NODES, POD_GROUPS, PODS
from corral.kinds.types import Obj
from corral.machinery.runner import Runner
from corral.testing.clock import FakeClock
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import SCHEDULER, Cell, is_bound


@asynccontextmanager
async def controlling(cell: Cell, clock: FakeClock) -> AsyncIterator[None]:
    """The controllers of both kinds of PodGroup, each as its own user."""

    def client_for(name: str) -> Client:
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
        return Client(InProcessTransport(cell.server, User(user_of(name), groups)))

    shared = Client(InProcessTransport(cell.server, User("system:kube-controller-manager", ("system:authenticated",))))
    both = [PodGroupController(POD_GROUPS), PodGroupController(COSCHEDULING_POD_GROUPS)]
    runner = Runner(shared, both, clock, rng=random.Random(1), client_for=client_for)
    task = asyncio.create_task(runner.run())
    try:
        await runner.synced.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Refusing(InProcessTransport):
    """Its bindings of some pods fail for good."""

    def __init__(self, server: ApiServer, *names: str) -> None:
        super().__init__(server, SCHEDULER)
        self.broken = {f"/pods/{name}/binding" for name in names}

    async def call(self, request: ApiRequest) -> ApiResponse:
        if any(request.path.endswith(path) for path in self.broken):
            raise ConnectionResetError("the wire was cut")
        return await super().call(request)


async def group(cell: Cell, name: str, minimum: int, seconds: int) -> None:
    kind = {"kind": "PodGroup", "apiVersion": COSCHEDULING_POD_GROUPS.api_version}
    metadata = {"name": name, "namespace": "default"}
    spec = {"minMember": minimum, "scheduleTimeoutSeconds": seconds}
    await cell.client.create(COSCHEDULING_POD_GROUPS, {**kind, "metadata": metadata, "spec": spec})


def members(name: str, count: int) -> list[Obj]:
    return [pod(f"{name}-{number}", cpu="1", labels={LABEL: name}) for number in range(count)]


async def phase(cell: Cell, name: str, wanted: str) -> Obj:
    """The group, as soon as it is in that phase."""
    async with asyncio.timeout(20):
        while True:
            found = await cell.client.get(COSCHEDULING_POD_GROUPS, name, "default")
            if (found.get("status") or {}).get("phase") == wanted:
                return found
            await asyncio.sleep(0.02)


async def test_half_a_gang_lets_go_when_its_time_is_over_and_another_runs(cell: Cell) -> None:
    clock, transport = FakeClock(), Refusing(cell.server, "g-1")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(controlling(cell, clock))
        await cell.add(node("a", cpu="3"))
        await cell.schedule(transport, clock=clock)
        await group(cell, "g", 3, 20)
        await cell.add(*members("g", 3))
        await cell.bound("g-0")
        await cell.bound("g-2")
        half = await phase(cell, "g", "Scheduling")
        assert half["status"]["scheduled"] == 2
        await clock.advance(15)
        assert not (await cell.client.get(PODS, "g-0", "default"))["metadata"].get("deletionTimestamp")
        await clock.advance(6)
        for name in ("g-0", "g-2"):
            gone = await cell.until(name, lambda found: bool(found["metadata"].get("deletionTimestamp")))
            assert (conditions.get(gone, "DisruptionTarget") or {})["reason"] == "PodGroupTimeout"
        said = await cell.event("g", "Timeout")
        assert said["message"] == (
            "only 2 of 3 members had machines after 20 seconds: 2 are deleted to make room for others"
        )
        assert not is_bound(await cell.client.get(PODS, "g-1", "default"))
        for name in ("g-0", "g-2"):
            await cell.client.delete(PODS, name, "default", grace=0)
        await group(cell, "other", 3, 20)
        await cell.add(*members("other", 3))
        for number in range(3):
            await cell.bound(f"other-{number}")
        await phase(cell, "other", "Scheduled")


async def test_a_gang_that_is_finished_in_time_keeps_its_machines(cell: Cell) -> None:
    clock, transport = FakeClock(), Refusing(cell.server, "g-1")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(controlling(cell, clock))
        await cell.add(node("a", cpu="3"))
        await cell.schedule(transport, clock=clock)
        await group(cell, "g", 3, 20)
        await cell.add(*members("g", 3))
        await phase(cell, "g", "Scheduling")
        await clock.advance(8)
        transport.broken.clear()
        await clock.advance(11)
        await cell.bound("g-1")
        await phase(cell, "g", "Scheduled")
        await clock.advance(60)
        pods = (await cell.client.list(PODS, "default"))["items"]
        assert not [one for one in pods if one["metadata"].get("deletionTimestamp")]


async def test_two_gangs_that_each_lost_a_member_do_not_wait_for_each_other(cell: Cell) -> None:
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(controlling(cell, clock))
        await cell.add(node("a", cpu="4"), node("b", cpu="2"))
        for name in ("one", "two"):
            await group(cell, name, 3, 30)
            for one, machine in zip(members(name, 3), "aab", strict=True):
                one["spec"]["nodeName"] = machine
                await cell.add(one)
            await phase(cell, name, "Scheduled")
        await cell.client.delete(NODES, "b")
        await cell.schedule(clock=clock)
        for name in ("one", "two"):
            await cell.client.delete(PODS, f"{name}-2", "default", grace=0)
            await cell.add(*members(name, 4)[3:])
            await cell.refused(f"{name}-3", f"pod group {name}: only 2 of 3 members fit")
            await phase(cell, name, "Unknown")
        await clock.advance(31)
        for name in ("one-0", "one-1", "two-0", "two-1"):
            await cell.until(name, lambda found: bool(found["metadata"].get("deletionTimestamp")))
            await cell.client.delete(PODS, name, "default", grace=0)
        await cell.add(*members("one", 2), *members("two", 2))
        async with asyncio.timeout(20):
            while len(await bound(cell)) < 3:
                await clock.advance(1)
        await clock.advance(40)
        names = await bound(cell)
        assert sorted(names) in (["one-0", "one-1", "one-3"], ["two-0", "two-1", "two-3"])


async def bound(cell: Cell) -> list[str]:
    """The names of the pods that have machines."""
    return [one["metadata"]["name"] for one in (await cell.client.list(PODS, "default"))["items"] if is_bound(one)]

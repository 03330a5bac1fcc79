"""Gangs in a cell where everything goes wrong for a while: in the end each is whole or holds nothing, and one runs."""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack, suppress

import pytest

from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.client.api import ApiRequest, ApiResponse
from corral.kinds.podgroups import LABEL
from corral.kinds.resources import NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.clock import FakeClock
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import SCHEDULER, Cell, is_bound

from .test_gang_timeouts import controlling, group

SIZES = {"one": 3, "two": 4, "three": 2}
SECONDS = 15


class Flaky(InProcessTransport):
    """A share of the bindings fails."""

    def __init__(self, server: ApiServer, rng: random.Random) -> None:
        super().__init__(server, SCHEDULER)
        self.share = 0.3
        self._rng = rng

    async def call(self, request: ApiRequest) -> ApiResponse:
        if request.path.endswith("/binding") and self._rng.random() < self.share:
            raise ConnectionResetError("the wire was cut")
        return await super().call(request)


class Owner:
    """Keeps as many members of each gang as it should have, and ends those that are being deleted."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._made = 0

    async def step(self) -> dict[str, list[Obj]]:
        """The members of each gang, after what was missing has been made."""
        pods = (await self._cell.client.list(PODS, "default"))["items"]
        alive: dict[str, list[Obj]] = {name: [] for name in SIZES}
        for one in pods:
            if one["metadata"].get("deletionTimestamp"):
                await self._cell.client.delete(PODS, one["metadata"]["name"], "default", grace=0)
            else:
                alive[one["metadata"]["labels"][LABEL]].append(one)
        for name, size in SIZES.items():
            for _ in range(size - len(alive[name])):
                self._made += 1
                await self._cell.add(pod(f"{name}-{self._made}", cpu="1", labels={LABEL: name}))
        return alive

    async def lose(self, rng: random.Random) -> None:
        """A random pod is deleted."""
        pods = (await self._cell.client.list(PODS, "default"))["items"]
        if pods:
            with suppress(StatusError):
                await self._cell.client.delete(PODS, rng.choice(pods)["metadata"]["name"], "default", grace=0)


def placed(members: list[Obj]) -> int:
    return sum(map(is_bound, members))


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_faults_no_gang_is_half_placed(cell: Cell, seed: int) -> None:
    clock, rng = FakeClock(), random.Random(seed)
    transport, owner = Flaky(cell.server, rng), Owner(cell)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(controlling(cell, clock))
        await cell.add(*(node(name, cpu="2") for name in "abc"))
        await cell.schedule(transport, clock=clock)
        for name, size in SIZES.items():
            await group(cell, name, size, SECONDS)
        for _ in range(25):
            await owner.step()
            fault = rng.random()
            if fault < 0.3:
                await owner.lose(rng)
            elif fault < 0.4:
                spec = {"unschedulable": rng.random() < 0.5}
                await cell.client.patch(NODES, rng.choice("abc"), {"spec": spec})
            await clock.advance(rng.uniform(0, 4))

        transport.share = 0.0
        for name in "ab":
            await cell.client.patch(NODES, name, {"spec": {"unschedulable": False}})
        # A machine dies: what is left has no room for everybody who lost members.
        await cell.client.delete(NODES, "c")
        for one in (await cell.client.list(PODS, "default", field_selector="spec.nodeName=c"))["items"]:
            await cell.client.delete(PODS, one["metadata"]["name"], "default", grace=0)
        # Members that one time-out sets free may complete a gang, or half of one whose own time runs from then.
        for _ in range(5 * SECONDS):
            await owner.step()
            await clock.advance(1)
            await asyncio.sleep(0)
        alive = await owner.step()
        counts = Counter({name: placed(members) for name, members in alive.items()})
        assert all(count in (0, SIZES[name]) for name, count in counts.items()), counts
        assert counts.total(), "there is room for any one of the gangs"

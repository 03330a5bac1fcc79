"""What keeps a machine's routes, through a real API and with a kernel in memory."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.client.client import Client
from corral.kinds.podnetwork import PROPOSAL
from corral.kinds.resources import HOST_SUBNETS, NODES
from corral.network.keeper import LOOK_SECONDS, RouteKeeper
from corral.network.plan import Changes, Direct, Machine, Plan
from corral.network.programs import Names, ProgramFailed, Programs
from corral.testing.clock import FakeClock

WANTED = "10.88.7.0/24"


class Kernel(Programs):
    """A machine's routes in memory."""

    def __init__(self, address: str) -> None:
        super().__init__(Names("corral-test"))
        self.machine = Machine(addresses=[("eth0", IPv4Interface(f"{address}/24"))])
        self.plans: list[Plan] = []
        self.writes: list[Changes] = []
        self.broken = ""
        self.table = ""

    async def read(self) -> Machine:
        if self.broken:
            raise ProgramFailed(self.broken)
        if self.machine.table != self.table:
            self.machine = replace(self.machine, table=self.table)
        return self.machine

    async def filter(self, plan: Plan) -> str:
        self.plans.append(plan)
        self.table += "sets;"
        return self.table

    async def route(self, changes: Changes, *, tunnels: bool, own: IPv4Network | None) -> None:
        table = {route.network: route for route in self.machine.routes if route not in changes.drop}
        table.update({route.network: route for route in changes.put})
        if changes != Changes():
            self.writes.append(changes)
            self.machine = replace(self.machine, routes=frozenset(table.values()))

    def vias(self) -> set[str]:
        return {str(route.via) for route in self.machine.routes if isinstance(route, Direct)}


class Agent:
    """What an agent does about the pod network: it registers, and says its address when it has a subnet."""

    def __init__(self, cell: Any, number: int, kernel: Kernel | None = None) -> None:
        self.name = f"n{number}"
        self.address = f"192.0.2.{number}"
        self.kernel = kernel or Kernel(self.address)
        self.clock = FakeClock()
        self.assigned: list[str] = []
        user = User(f"system:node:{self.name}", ("system:nodes", "system:authenticated"))
        self.client = Client(InProcessTransport(cell.server, user))
        self.keeper = RouteKeeper(
            self.client,
            self.kernel,
            self.clock,
            random.Random(number),
            name=self.name,
            pods=self,
            proposal=WANTED,
        )

    async def assign_subnet(self, subnet: str) -> None:
        self.assigned.append(subnet)

    async def restore_network(self) -> None:
        self.kernel.table += "masquerade;"

    async def register(self) -> None:
        metadata = {"name": self.name, "annotations": {PROPOSAL: self.keeper.proposal}}
        await self.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": metadata})
        status = {"addresses": [{"type": "InternalIP", "address": self.address}]}
        await self.client.patch(NODES, self.name, {"status": status}, subresource="status")

    async def until(self, check: Callable[[], bool]) -> None:
        """Let the keeper's time pass until `check` holds."""
        async with asyncio.timeout(20):
            while not check():
                await self.clock.advance(1)
                await asyncio.sleep(0.001)

    async def until_routes(self, *vias: str) -> None:
        """Wait until there are routes by these machines and no others."""
        await self.until(lambda: self.kernel.vias() == set(vias))


@asynccontextmanager
async def running(*agents: Agent) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(agent.keeper.run()) for agent in agents]
        yield
        for task in tasks:
            task.cancel()


async def test_machines_that_want_the_same_end_with_routes_to_each_other(cell: Any) -> None:
    agents = [Agent(cell, number) for number in (1, 2, 3)]
    async with running(*agents):
        await asyncio.gather(*(agent.register() for agent in agents))
        for agent in agents:
            others = {other.address for other in agents} - {agent.address}
            await agent.until_routes(*others)
            assert agent.keeper.settled.is_set()
            assert agent.keeper.trouble == ""
        given = {agent.assigned[-1] for agent in agents}
        assert len(given) == 3
        assert WANTED in given
        assert {str(network) for network in agents[0].kernel.plans[-1].pods} >= given - {WANTED}
        await cell.client.delete(NODES, "n3")
        await agents[0].until_routes("192.0.2.2")
        await agents[1].until_routes("192.0.2.1")


async def test_until_the_cell_has_assigned_a_subnet_there_is_no_network(cell: Any) -> None:
    await cell.stop_controllers()
    agent, changes = Agent(cell, 1), []
    agent.keeper.on_change(lambda: changes.append(agent.keeper.trouble))
    async with running(agent):
        await agent.register()
        await agent.clock.advance(60)
        assert not agent.keeper.settled.is_set()
        assert agent.keeper.trouble == "the cell has not assigned the addresses of its pods yet"
        assert not agent.assigned
        await cell.start_controllers()
        await agent.until(agent.keeper.settled.is_set)
    assert agent.assigned == [WANTED]
    assert changes == [""]


async def test_a_new_keeper_finds_all_in_order_and_puts_back_what_others_take(cell: Any) -> None:
    agents = [Agent(cell, number) for number in (1, 2)]
    async with running(*agents):
        await asyncio.gather(*(agent.register() for agent in agents))
        await agents[0].until_routes("192.0.2.2")
    kernel = agents[0].kernel
    kernel.writes.clear()
    again = Agent(cell, 1, kernel)
    async with running(again):
        await again.until(again.keeper.settled.is_set)
        assert kernel.writes == []
        kernel.machine = replace(kernel.machine, routes=frozenset())
        await again.clock.advance(LOOK_SECONDS + 5)
        await again.until_routes("192.0.2.2")
        assert len(kernel.writes) == 1
        kernel.table = ""  # as `nft flush ruleset` leaves it
        await again.until(lambda: kernel.table == "masquerade;sets;")


async def test_what_the_kernel_refuses_is_said_and_tried_again(cell: Any) -> None:
    agent = Agent(cell, 1)
    agent.kernel.broken = "cannot ip: Operation not permitted"
    async with running(agent):
        await agent.register()
        await agent.until(lambda: agent.keeper.trouble == agent.kernel.broken)
        assert not agent.keeper.settled.is_set()
        agent.kernel.broken = ""
        await agent.until(agent.keeper.settled.is_set)
        # An administrator's slip is undone, and nothing here is the worse for it.
        await cell.client.delete(HOST_SUBNETS, "n1")
        await cell.until(HOST_SUBNETS, "n1", lambda subnet: subnet["spec"]["podCIDRs"] == [WANTED], "")
        await agent.until(agent.keeper.settled.is_set)
    assert set(agent.assigned) == {WANTED}

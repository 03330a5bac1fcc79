"""Keeps one machine's routes to all other machines' pods.

It follows the HostSubnets: its own says which subnet its pods have, the others where packets have to go. While the API
cannot be reached nothing changes, and a new keeper finds the routes of an earlier one as they were. What somebody else
has taken away (a link went down and came up again) is put back at the next look.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from typing import Protocol

from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.podnetwork import PROPOSAL, SPACE, SPARE, HostSubnet, read
from corral.kinds.resources import HOST_SUBNETS, NODES
from corral.kinds.status import StatusError
from corral.network.plan import Machine, Plan, changes, is_taken, plan, propose
from corral.network.programs import Programs

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
_RETRY_SECONDS = 2.0
_PAUSE_SECONDS = 0.2
"""Between two looks, once all is in order: when many machines come at once, not each is a look of its own."""
_NOT_ASSIGNED = "the cell has not assigned the addresses of its pods yet"


class Pods(Protocol):
    """The network of a machine's own pods."""

    async def assign_subnet(self, subnet: str) -> None:
        """The cell's word on their addresses; said again at each look."""

    async def restore_network(self) -> None:
        """Write anew what lets them out: somebody may have flushed it."""


class RouteKeeper:
    """The pod network of the machine `name`.

    Args:
        pods: its own; None if it has none and only wants to reach those of others.
        proposal: the subnet that they would like to have, or have had.
    """

    def __init__(
        self,
        client: Client,
        programs: Programs,
        clock: Clock,
        rng: random.Random,
        *,
        name: str = "",
        pods: Pods | None = None,
        proposal: str = "",
    ) -> None:
        self._client = client
        self._programs = programs
        self._clock = clock
        self._name = name
        self._wanted = self._announced = IPv4Network(proposal) if proposal else None
        self._pods = pods
        self._trouble = _NOT_ASSIGNED if proposal else ""
        self._changed: Callable[[], None] = lambda: None
        self.settled = asyncio.Event()
        self._due = asyncio.Event()
        self._heard = True
        """Whether a subnet has changed since the last look that went well."""
        self._machine: Machine | None = None
        self._filtered: tuple[object, ...] = ()
        self._table: str | None = None
        """The table of nftables as we left it."""
        self._told: set[str] = set()
        self._informer = Informer(client, HOST_SUBNETS, clock=clock, rng=rng)
        self._informer.on_event(self._note)

    @property
    def proposal(self) -> str:
        return str(self._wanted) if self._wanted is not None else ""

    @property
    def trouble(self) -> str | None:
        return self._trouble

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def _note(self, event: Event) -> None:
        self._heard = True
        self._due.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._informer.run(), name="host subnets")
            parts.create_task(self._tick(), name="looks at routes")
            await self._informer.synced.wait()
            while True:
                await self._look()
                if self.settled.is_set():
                    await self._clock.sleep(_PAUSE_SECONDS)
                await self._due.wait()

    async def _tick(self) -> None:
        looked = self._clock.monotonic()
        while True:
            await self._clock.sleep(_RETRY_SECONDS)
            if not self.settled.is_set() or self._clock.monotonic() - looked >= LOOK_SECONDS:
                looked = self._clock.monotonic()
                self._due.set()

    async def _look(self) -> None:
        self._due.clear()
        heard, self._heard = self._heard, False
        subnets = [read(obj) for obj in self._informer.items()]
        own = next((one.networks for one in subnets if one.name == self._name), ())
        try:
            if self._wanted is not None and not own:
                await self._propose(self._wanted, subnets)
                self._say(_NOT_ASSIGNED)
                return
            if own and self._pods is not None:
                self._wanted = self._announced = own[0]
                await self._pods.assign_subnet(str(own[0]))
                if len(subnets) == 1:
                    self._say("")  # alone there is nowhere to route to, and nothing to wait for
            machine = await self._programs.read()
            if heard or machine is not self._machine:
                wanted = plan(self._name, subnets, machine)
                await self._filter(wanted, machine)
                await self._route(wanted, machine, own)
                self._machine = machine
            self._say("")
        except (CorralError, StatusError, OSError) as error:
            logger.warning("cannot keep the pod network, will retry: %s", error)
            self._heard = True
            self._say(str(error))

    async def _filter(self, wanted: Plan, machine: Machine) -> None:
        filtered = (wanted.pods, wanted.machines, wanted.tunnels)
        if filtered == self._filtered and machine.table == self._table:
            return
        if self._pods is not None and machine.table != self._table:
            await self._pods.restore_network()
        self._table = await self._programs.filter(wanted)
        self._filtered = filtered

    async def _route(self, wanted: Plan, machine: Machine, own: Sequence[IPv4Network]) -> None:
        for words in set(wanted.conflicts) - self._told:
            logger.warning("cannot route to pods: %s on this machine", words)
        self._told = set(wanted.conflicts)
        address = own[0] if own else None
        await self._programs.route(changes(machine.routes, wanted.routes), tunnels=wanted.tunnels, own=address)

    async def _propose(self, wanted: IPv4Network, subnets: list[HostSubnet]) -> None:
        """If another machine has what we want, want something else."""
        if is_taken(wanted, self._name, subnets):
            better = propose(self._name, subnets, await self._programs.read())
            if better is None:
                raise CorralError(
                    f"cannot propose a pod CIDR: all of {SPACE} and {SPARE} is taken", "remove machines that are gone"
                )
            logger.info("another machine has %s, proposing %s", wanted, better)
            self._wanted = better
        if self._wanted != self._announced:
            patch = {"metadata": {"annotations": {PROPOSAL: str(self._wanted)}}}
            await self._client.patch(NODES, self._name, patch)
            self._announced = self._wanted

    def _say(self, trouble: str) -> None:
        if trouble:
            self.settled.clear()
        else:
            self.settled.set()
        if trouble != self._trouble:
            self._trouble = trouble
            self._changed()

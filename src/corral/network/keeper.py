"""Keeps one machine's routes to all other machines' pods.

It follows the HostSubnets: its own says which subnet its pods have, the others where packets have to go. While the API
cannot be reached nothing changes, and a new keeper finds the routes of an earlier one as they were. What somebody else
has taken away (a link went down and came up again) is put back at the next look.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network

from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.podnetwork import PROPOSAL, SPACE, HostSubnet, read
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

Assign = Callable[[str], Awaitable[None]]


class RouteKeeper:
    """The pod network of the machine `name`, which has pods of its own if it has a `proposal`.

    Args:
        proposal: the subnet that it would like to have, or has had.
        assign: told the subnet that its pods have.
    """

    def __init__(
        self,
        client: Client,
        programs: Programs,
        clock: Clock,
        rng: random.Random,
        *,
        name: str = "",
        proposal: str = "",
        assign: Assign | None = None,
    ) -> None:
        self._client = client
        self._programs = programs
        self._clock = clock
        self._name = name
        self._wanted = self._announced = IPv4Network(proposal) if proposal else None
        self._assign = assign
        self._trouble = _NOT_ASSIGNED if proposal else ""
        self._changed: Callable[[], None] = lambda: None
        self.settled = asyncio.Event()
        self._due = asyncio.Event()
        self._heard = True
        """Whether a subnet has changed since the last look that went well."""
        self._machine: Machine | None = None
        self._filtered: tuple[object, ...] = ()
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
            late = self._clock.monotonic() - looked >= LOOK_SECONDS
            # Alone there is nothing that could be taken away.
            if not self.settled.is_set() or (late and len(self._informer) > 1):
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
            if own and self._assign is not None:
                self._wanted = self._announced = own[0]
                await self._assign(str(own[0]))
            if len(subnets) == 1:
                self._say("")  # alone there is nowhere to route to, and nothing to wait for
            machine = await self._programs.read()
            if heard or machine is not self._machine:
                await self._route(plan(self._name, subnets, machine), machine, own[0] if own else None)
                self._machine = machine
            self._say("")
        except (CorralError, StatusError, OSError) as error:
            logger.warning("cannot keep the pod network, will retry: %s", error)
            self._heard = True
            self._say(str(error))

    async def _route(self, wanted: Plan, machine: Machine, own: IPv4Network | None) -> None:
        filtered = (wanted.pods, wanted.machines, wanted.tunnels)
        if filtered != self._filtered:
            await self._programs.filter(wanted)
            self._filtered = filtered
        for words in set(wanted.conflicts) - self._told:
            logger.warning("cannot route to pods: %s on this machine", words)
        self._told = set(wanted.conflicts)
        await self._programs.route(changes(machine.routes, wanted.routes), tunnels=wanted.tunnels, own=own)

    async def _propose(self, wanted: IPv4Network, subnets: list[HostSubnet]) -> None:
        """If another machine has what we want, want something else."""
        if is_taken(wanted, self._name, subnets):
            better = propose(self._name, subnets, await self._programs.read())
            if better is None:
                raise CorralError(
                    f"cannot propose a pod CIDR: every one of {SPACE} is taken", "remove machines that are gone"
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

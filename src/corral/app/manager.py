"""Controllers and scheduler of a server.

With several servers on one store, each of them follows everything and one acts: the one that holds a lease. All of a
leader's writes are fenced: the store refuses those of a leader that has been replaced without knowing it. A server that
loses the lease lets go of all it assumed and stands by again.

This module imports all of them. Who starts a server does so before it listens: importing keeps the loop from answering,
and what listens and does not answer looks to machines like a server that may have given them up.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.app.config import CellConfig
from corral.app.repair import host_commands
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.batch.all import controllers as queue_controllers
from corral.batch.controller import QueueController
from corral.client.api import ApiRequest, ApiResponse, Transport, WatchEvent
from corral.client.client import Client
from corral.controllers.all import controllers, user_of
from corral.fleet.all import controllers as fleet_controllers
from corral.kinds.health import PROFILES
from corral.kinds.servers import MANAGER_LEASE, identity
from corral.kinds.status import unavailable
from corral.machinery.caches import Caches
from corral.machinery.leases import QUICK, LeaderElection
from corral.machinery.runner import Runner, installed_controllers
from corral.scheduler import plugins
from corral.scheduler.planner import Planner
from corral.scheduler.profile import Profile
from corral.scheduler.scheduler import Scheduler
from corral.store.fence import FENCE, Fence
from corral.store.protocol import Entry, Full, Store, Unavailable

_log = logging.getLogger(__name__)

_TERM_KEY: Final = "/corral.dev/terms/manager"


class Manager:
    """Runs the controllers and the scheduler.

    Args:
        shared: whether other servers use the same store, so that one of them must be chosen.

    Raises:
        CorralError: a plug-in or the profile asked for cannot be used.
    """

    def __init__(
        self,
        config: CellConfig,
        server: ApiServer,
        pki: Pki,
        clock: Clock,
        rng: random.Random,
        *,
        shared: bool,
        url: str,
    ) -> None:
        self._server = server
        self._pki = pki
        self._clock = clock
        self._rng = rng
        self._shared = shared
        self._health = PROFILES[config.health_profile]
        self._data_dir = config.data_dir
        host_commands(config.data_dir)  # a fault in it is said now, not in an emergency
        self._identity = identity(url, secrets.token_hex(4))
        installed = plugins.load()
        self.plugins = installed.titles
        """What users' packages add to the scheduler."""
        self._profiles = installed.by_name()
        self._profile = _choose(config, self._profiles)
        self._fence: Fence | None = None
        self.scheduler: Scheduler
        """The one that answers questions; it decides only while this server leads."""
        self.planner: Planner
        self.queues: QueueController
        """The one that answers questions, too."""
        self._make_scheduler(None)

    async def run(self) -> None:
        """Follow, and act while we lead, until cancelled."""
        if not self._shared:
            await self._follow(None)
            return
        while True:
            active = asyncio.Event()
            self._make_scheduler(active)
            try:
                async with asyncio.TaskGroup() as parts:
                    parts.create_task(self._follow(active), name="standby")
                    await self._lead(active)
                    raise _Lost
            except* _Lost:
                _log.warning("another server leads now; this one stands by")

    async def _follow(self, active: asyncio.Event | None) -> None:
        store = self._server.core.store
        own = controllers(
            ca_pem=self._pki.ca_pem.decode(),
            sign=self._pki.sign_request,
            health=self._health,
            sole=not self._shared,
            refused=lambda: store.refused,
        )
        repairs = fleet_controllers(lambda: host_commands(self._data_dir).remote)
        every = [*own, *queue_controllers(self.queues), *repairs, *installed_controllers()]
        runner = Runner(
            self._copying,
            every,
            self._clock,
            rng=self._rng,
            client_for=self._controller_client,
            active=active,
            caches=self._caches,
        )
        async with asyncio.TaskGroup() as parts:
            parts.create_task(runner.run(), name="controllers")
            parts.create_task(self.scheduler.run(), name="scheduler")

    async def _lead(self, active: asyncio.Event) -> None:
        """Act as soon as we hold the lease; return when we have lost it."""
        client = Client(InProcessTransport(self._server, User("system:apiserver", (MASTERS,))))
        election = LeaderElection(client, MANAGER_LEASE, self._identity, self._clock, timing=QUICK)
        await election.acquire()
        try:
            self._fence = await begin_term(self._server.core.store, self._identity)
        except (Unavailable, Full) as error:
            # Whether the term has begun is unknown; the next one will tell.
            _log.warning("cannot begin to lead: %s", error)
            return
        active.set()
        try:
            await election.hold()
        finally:
            self._fence = None

    def _make_scheduler(self, active: asyncio.Event | None) -> None:
        self.queues = QueueController()
        self._copying = self._client("system:kube-controller-manager", manager="kube-controller-manager")
        self._caches = Caches(self._copying, self._clock, self._rng)
        client = self._client("system:kube-scheduler", manager="kube-scheduler")
        self.scheduler = Scheduler(
            client,
            clock=self._clock,
            rng=self._rng,
            profile=self._profile,
            others=self._profiles,
            active=active,
            caches=self._caches,
        )
        controllers = Client(InProcessTransport(self._server, User("system:kube-controller-manager", (MASTERS,))))
        self.planner = Planner(self.scheduler, controllers)

    def _controller_client(self, name: str) -> Client:
        return self._client(user_of(name), "system:serviceaccounts", "system:serviceaccounts:kube-system", manager=name)

    def _client(self, user: str, *groups: str, manager: str) -> Client:
        plain = InProcessTransport(self._server, User(user, (*groups, "system:authenticated")))
        return Client(_Fencing(plain, self._standing) if self._shared else plain, field_manager=manager)

    def _standing(self) -> Fence | None:
        """What our writes depend on; None while we do not lead."""
        return self._fence


class _Lost(Exception):
    """The lease is somebody else's."""


def _choose(config: CellConfig, profiles: Mapping[str, Profile]) -> Profile:
    profile = profiles.get(config.scheduler_profile)
    if profile is None:
        raise CorralError(
            f"cannot schedule by the profile {config.scheduler_profile!r}: there is none of that name",
            f"use --scheduler-profile with one of {', '.join(sorted(profiles))}",
        )
    return profile


async def begin_term(store: Store, identity: str) -> Fence:
    """Take the key that all writes of a leader depend on: from now on, those of an earlier one fail."""
    while True:
        value, held = identity.encode(), store.get(_TERM_KEY)
        write = store.create(_TERM_KEY, value) if held is None else store.update(_TERM_KEY, value, held.revision)
        outcome = await write
        if isinstance(outcome, Entry):
            return Fence(_TERM_KEY, outcome.revision)


class _Fencing:
    """A transport whose writes are made only while we lead."""

    def __init__(self, plain: Transport, standing: Callable[[], Fence | None]) -> None:
        self._plain = plain
        self._standing = standing

    async def call(self, request: ApiRequest) -> ApiResponse:
        if request.method == "GET":
            return await self._plain.call(request)
        fence = self._standing()
        if fence is None:
            raise unavailable("this server does not lead: another one does this work")
        token = FENCE.set(fence)
        try:
            return await self._plain.call(request)
        finally:
            FENCE.reset(token)

    def watch(self, request: ApiRequest) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        return self._plain.watch(request)

    async def close(self) -> None:
        await self._plain.close()

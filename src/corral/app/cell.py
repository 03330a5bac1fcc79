"""One cell in one process: store, API server, controllers, scheduler and this machine's agent, wired together.

Every part reaches the API through a transport of its own, as a user of its own, under the same authorization as anybody
else. Parts start in the order in which they need each other and stop in reverse; containers run on.
"""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.server import ApiServer
from corral.apiserver.source_collector import SourceCollector
from corral.apiserver.sources import Sources
from corral.app import extensions
from corral.app.clock import process_clock
from corral.app.config import CellConfig, machine_address
from corral.app.manager import Manager
from corral.app.peers import Peers
from corral.app.server import insist, running_server, write_kubeconfig
from corral.app.servers import Roster
from corral.app.snapshots import Snapshots
from corral.base.clock import Clock
from corral.base.tasks import TaskStack

Report = Callable[[str, str, float], None]
"""Told of each finished step: its name, what came of it, the seconds it took."""

RENEWAL_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A running cell."""

    config: CellConfig
    port: int
    server: ApiServer
    tasks: TaskStack

    async def failed(self) -> BaseException:
        """Returns when a part of the cell has failed, with its error."""
        assert self.tasks.failed is not None
        return await self.tasks.failed


class _Steps:
    """Times the steps of a start."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = time.monotonic()

    def done(self, name: str, what: str) -> None:
        now = time.monotonic()
        self._report(name, what, now - self._began)
        self._began = now


@asynccontextmanager
async def running_cell(config: CellConfig, report: Report) -> AsyncIterator[Cell]:
    """Start a cell; it is ready on entry and stopped on exit.

    Raises:
        CorralError: a part is missing or cannot be used.
    """
    if config.agent:
        from corral.app.agent import build_agent  # before we listen (see Manager), and only where it is needed
    steps = _Steps(report)
    clock = process_clock(config.data_dir)
    rng = random.SystemRandom()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(running_server(config, clock, rng, steps.done))
        server, pki = api.server, api.pki
        host = next(iter(config.addresses), machine_address())
        url, tell = f"https://{host}:{api.port}", partial(write_kubeconfig, config, pki, api.port)
        roster = Roster(server, pki, url, clock, shared=api.shared, changed=tell)
        await insist(roster.tell, clock)
        tasks = await stack.enter_async_context(TaskStack())
        tasks.start(_renew(pki, clock), "certificates")
        if api.shared:
            tasks.start(roster.run(), "servers")
        tasks.start(Snapshots(config.data_dir / "backups", server.core.store, clock).run(), "backups")
        manager = Manager(config, server, pki, clock, rng, shared=api.shared, url=url)
        tasks.start(manager.run(), "manager")
        if manager.plugins:
            steps.done("plug-ins", ", ".join(manager.plugins))
        sources_dir = config.data_dir / "sources"
        peers = Peers(roster.others, pki.client_context("system:apiserver", [MASTERS])) if api.shared else None
        sources = Sources(sources_dir, peers)
        tasks.start(SourceCollector(sources_dir, server.core.store, clock).run(), "old sources")
        extensions.install(config, server, api.dialer, sources, manager)
        steps.done("controllers", "scheduler and controllers run")

        if config.agent:
            address = machine_address()
            agent = build_agent(config, server, pki, sources, address=address, api_port=api.port, clock=clock, rng=rng)
            await agent.start()
            stack.push_async_callback(agent.stop)
            steps.done("agent", f"machine {config.machine} at {address}, {agent.runtime.version}")
        yield Cell(config, api.port, server, tasks)


async def _renew(pki: Pki, clock: Clock) -> None:
    while True:
        await clock.sleep(RENEWAL_SECONDS)
        pki.renew()

"""One cell in one process: store, API server, controllers, scheduler and this machine's agent, wired together.

Every part reaches the API through a transport of its own, as a user of its own, under the same authorization as anybody
else. Parts start in the order in which they need each other and stop in reverse; containers run on.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.apiserver.auth import bootstrap, kubeconfig
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.http import HttpFront
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.sources import Sources
from corral.apiserver.streams import NodeDialer
from corral.app import extensions
from corral.app.config import CellConfig, machine_address
from corral.base.clock import Clock, SystemClock
from corral.base.errors import CorralError
from corral.base.tasks import TaskStack
from corral.client.client import Client
from corral.kinds.registry import Registry
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from corral.scheduler.scheduler import Scheduler

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
    steps = _Steps(report)
    clock = SystemClock()
    rng = random.SystemRandom()
    address = machine_address()
    async with AsyncExitStack() as stack:
        pki = Pki.open(config.data_dir / "pki", hosts=[address, config.host, config.machine])
        store = await SqliteStore.open(config.data_dir / "store.db")
        stack.push_async_callback(store.close)
        steps.done("state", f"{config.data_dir}/store.db at revision {store.revision}")

        tokens = TokenIssuer(pki.service_account_key, store, clock)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        dialer = NodeDialer(pki.client_context("kube-apiserver-kubelet-client", ["system:masters"]))
        stack.push_async_callback(dialer.close)
        server = ApiServer(
            store, Registry.builtin(), authorizer, clock=clock, rng=rng, tokens=tokens, node_dialer=dialer
        )
        await server.start()
        stack.push_async_callback(server.stop)
        await _create_first_objects(server)
        front = HttpFront(server, CellAuthenticator(tokens, clock), pki.server_context())
        port = await _listen(front, config)
        stack.push_async_callback(front.stop)
        _write_kubeconfig(config, pki, port)
        steps.done("api", f"https://127.0.0.1:{port}")

        tasks = await stack.enter_async_context(TaskStack())
        tasks.start(_renew(pki, clock), "certificates")
        await _start_controllers(server, pki, clock, rng, tasks)
        scheduler = _start_scheduler(server, clock, rng, tasks)
        sources = Sources(config.data_dir / "sources")
        extensions.install(server, dialer, sources, scheduler)
        steps.done("controllers", "scheduler and controllers run")

        if config.agent:
            from corral.app.agent import build_agent

            agent = build_agent(config, server, pki, sources, address=address, api_port=port, clock=clock, rng=rng)
            await agent.start()
            stack.push_async_callback(agent.stop)
            steps.done("agent", f"machine {config.machine} at {address}, {agent.runtime.version}")
        yield Cell(config, port, server, tasks)


async def _create_first_objects(server: ApiServer) -> None:
    """Create what every cell begins with and this one does not have (yet, or any more)."""
    client = Client(InProcessTransport(server, User("system:apiserver", (MASTERS,))), field_manager="corral")

    async def create(obj: Obj) -> None:
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = server.core.registry.by_kind(group, version, obj["kind"])
        assert kind is not None
        try:
            await client.create(kind.resource, obj)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    objects = bootstrap.objects()
    # Namespaces first: everything else may be in one. The rest goes into one group commit.
    for batch in (True, False):
        await asyncio.gather(*(create(obj) for obj in objects if (obj["kind"] == "Namespace") is batch))


async def _listen(front: HttpFront, config: CellConfig) -> int:
    try:
        return await front.start(config.host, config.port)
    except OSError as error:
        raise CorralError(
            f"cannot listen on port {config.port}: {error.strerror}",
            f"end what uses it (ss -ltnp 'sport = :{config.port}'), or choose another with --port",
        ) from error


def _write_kubeconfig(config: CellConfig, pki: Pki, port: int) -> None:
    certificate, key = pki.admin()
    url = f"https://127.0.0.1:{port}"
    kubeconfig.write(config.kubeconfig, url, pki.ca_pem, certificate, key, "corral")


async def _renew(pki: Pki, clock: Clock) -> None:
    while True:
        await clock.sleep(RENEWAL_SECONDS)
        pki.renew()


async def _start_controllers(server: ApiServer, pki: Pki, clock: Clock, rng: random.Random, tasks: TaskStack) -> None:
    from corral.controllers.all import controllers
    from corral.machinery.runner import Runner

    def client_for(name: str) -> Client:
        account = f"system:serviceaccount:kube-system:{name}"
        groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
        return Client(InProcessTransport(server, User(account, groups)), field_manager=name)

    user = User("system:kube-controller-manager", ("system:authenticated",))
    shared = Client(InProcessTransport(server, user), field_manager="kube-controller-manager")
    runner = Runner(shared, controllers(ca_pem=pki.ca_pem.decode()), clock, rng=rng, client_for=client_for)
    tasks.start(runner.run(), "controllers")


def _start_scheduler(server: ApiServer, clock: Clock, rng: random.Random, tasks: TaskStack) -> "Scheduler":
    from corral.scheduler.scheduler import Scheduler

    user = User("system:kube-scheduler", ("system:authenticated",))
    client = Client(InProcessTransport(server, user), field_manager="kube-scheduler")
    scheduler = Scheduler(client, clock=clock, rng=rng)
    tasks.start(scheduler.run(), "scheduler")
    return scheduler

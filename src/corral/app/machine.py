"""A machine that has joined a cell: its agent, connected to the cell's servers over TLS."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from corral.agent.agent import Agent, AgentConfig
from corral.agent.podnetwork import PodNetwork
from corral.agent.problems.sources import Sources, machine_sources
from corral.agent.runtime import volatile
from corral.agent.runtime.api import Runtime
from corral.app.clock import process_clock
from corral.app.config import CellConfig
from corral.app.dismissal import Attentive, Removed
from corral.app.membership import Identity, Membership
from corral.app.podnetwork import build_network
from corral.app.ports import agent_port
from corral.app.repair import host_commands
from corral.app.runtime import open_runtime
from corral.app.servers import INFO, INFO_NAMESPACE, known, told
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.base.tasks import TaskStack
from corral.client.client import Client
from corral.client.failover import FailoverTransport
from corral.client.informer import Event, Informer
from corral.kinds.resources import CONFIG_MAPS, NODES
from corral.kinds.status import StatusError
from corral.wire.sockets import guarded

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """A running machine."""

    agent: Agent
    tasks: TaskStack
    removal: asyncio.Task[Removed]

    async def failed(self) -> BaseException:
        """Returns when a part has failed, with its error, or when the cell has removed this machine."""
        assert self.tasks.failed is not None
        ends: set[asyncio.Future[Any]] = {self.tasks.failed, self.removal}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return self.removal.result() if self.removal.done() else self.tasks.failed.result()


class Ground(NamedTuple):
    """What an agent stands on."""

    runtime: Runtime
    network: PodNetwork


def real_ground(config: CellConfig, client: Client, name: str, clock: Clock, rng: random.Random) -> Ground:
    """That of a real machine."""
    runtime = open_runtime(config)
    return Ground(runtime, build_network(client, runtime, name, clock, rng))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a machine is made of."""

    ground: Callable[[CellConfig, Client, str, Clock, random.Random], Ground] = real_ground
    agent: Callable[..., Agent] = Agent
    sources: Sources = machine_sources


REAL = Parts()


class RemoteSources:
    """Uploads, fetched from one of the servers as this machine."""

    def __init__(self, servers: Callable[[], Sequence[str]], identity: Identity) -> None:
        self._servers = servers
        self._identity = identity

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        """Download the upload `digest` of `namespace` to the file `into`.

        Raises:
            CorralError, OSError: it is not there, or the server cannot be reached.
        """
        path = f"/apis/corral.dev/v1/namespaces/{namespace}/sources/{digest}"
        failures: list[Exception] = []
        for server in self._servers():
            try:
                return await self._download(server + path, into)
            except (CorralError, OSError) as error:
                failures.append(error)
        raise failures[0]

    async def _download(self, url: str, into: Path) -> None:
        connector = aiohttp.TCPConnector(ssl=self._identity.client_tls(), socket_factory=guarded)
        try:
            async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
                if response.status != 200:
                    raise CorralError(f"cannot fetch {url}: the server answered {response.status}")
                with into.open("wb") as file:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        await asyncio.to_thread(file.write, chunk)
        except aiohttp.ClientError as error:
            raise OSError(f"cannot fetch {url}: {error}") from error


@asynccontextmanager
async def running_machine(
    config: CellConfig, membership: Membership, report: Callable[[str, str, float], None], parts: Parts = REAL
) -> AsyncIterator[Machine]:
    """Run this machine's agent; it is registered on entry and stopped on exit, and containers run on.

    Raises:
        CorralError: its certificates cannot be used.
        Removed: the cell has removed it.
    """
    began = time.monotonic()
    host_commands(config.data_dir)  # a fault in it is said now, not in an emergency
    clock, rng = process_clock(config.data_dir), random.SystemRandom()
    identity = Identity(config.data_dir / "pki", membership, clock)
    identity.require()
    address = identity.address
    async with AsyncExitStack() as stack:
        transport = identity.transport()
        stack.push_async_callback(transport.close)
        attentive = Attentive(transport)
        client = Client(attentive, field_manager="kubelet")
        await _ask_whether_welcome(client, attentive, membership)
        context = await identity.serving(client)
        tasks = await stack.enter_async_context(TaskStack())
        tasks.start(hear_of_servers(config.data_dir, membership, transport, client, clock, rng), "servers of the cell")
        runtime, network = parts.ground(config, client, membership.name, clock, rng)
        groups = runtime.control_groups()
        settings = AgentConfig(
            node_name=membership.name,
            directory=config.agent_dir,
            address=address,
            port=membership.port,
            listen=address,
            capacity=membership.capacity,
            labels=membership.labels,
            taints=membership.taints,
            service=lambda: _host_and_port(transport.current),
            fences=True,
            boot=config.boot,
            fence_file=volatile.fence(config.agent_dir) if groups else None,
            groups=groups,
            reboot=lambda: host_commands(config.data_dir).reboot,
            restart=lambda: _ask_for_restart(tasks),
        )
        agent = parts.agent(
            client,
            runtime,
            settings,
            clock=clock,
            rng=rng,
            server_context=context,
            fetch_source=RemoteSources(lambda: transport.servers, identity),
            sources=parts.sources,
            network=network,
        )
        listening = agent_port(address, membership.port)
        if not listening.ok:
            raise CorralError(f"cannot start the agent: {listening.detail}", listening.remedy)
        await agent.start()
        stack.push_async_callback(agent.stop)
        tasks.start(identity.keep(client), "certificates")
        words = f"machine {membership.name} at {address} of {membership.server}, {agent.runtime.version}"
        report("agent", words, time.monotonic() - began)
        yield Machine(agent, tasks, tasks.start(_removal(attentive, membership), "removal from the cell"))


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 443


async def _ask_whether_welcome(client: Client, attentive: Attentive, membership: Membership) -> None:
    """Without it an agent that was removed would try to register for ever. A server that does not answer says nothing.

    Raises:
        Removed: the cell has removed this machine.
    """
    try:
        await client.get(NODES, membership.name)
    except (StatusError, OSError) as error:
        if attentive.removed.is_set():
            raise Removed(membership) from error


async def _removal(attentive: Attentive, membership: Membership) -> Removed:
    await attentive.removed.wait()
    return Removed(membership)


class RestartAsked(CorralError):
    """The agent is to make way for another one in its place: its process is to be replaced."""


def _ask_for_restart(tasks: TaskStack) -> None:
    """End the machine as if a part of it had failed: what it holds is let go in order."""
    if tasks.failed is not None and not tasks.failed.done():
        tasks.failed.set_result(RestartAsked("this agent ends, so that a new one takes its place"))


async def hear_of_servers(
    directory: Path,
    membership: Membership,
    transport: FailoverTransport,
    client: Client,
    clock: Clock,
    rng: random.Random,
) -> None:
    """Go by the servers that the cell has, and remember them for the next start."""

    def heard(event: Event) -> None:
        servers = known(told(event.obj), transport.current, membership.name)
        transport.use(servers)
        remembered = Membership.load(directory) or membership
        if event.new is not None and servers != remembered.servers:
            replace(remembered, servers=servers).save(directory)

    informer = Informer(
        client, CONFIG_MAPS, namespace=INFO_NAMESPACE, field_selector=f"metadata.name={INFO}", clock=clock, rng=rng
    )
    informer.on_event(heard)
    await informer.run()

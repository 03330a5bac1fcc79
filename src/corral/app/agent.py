"""This machine's agent, wired to the server in the same process."""

import asyncio
import random
import shutil
from pathlib import Path

from corral.agent.agent import Agent, AgentConfig
from corral.agent.runtime import volatile
from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import Pki
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.sources import Sources
from corral.app.config import CellConfig
from corral.app.podnetwork import build_network
from corral.app.repair import host_commands
from corral.app.runtime import open_runtime
from corral.base.clock import Clock
from corral.client.client import Client


class LocalSources:
    """Uploads that lie on this very machine, or are fetched to it from other servers."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        """Copy the upload `digest` of `namespace` to the file `into`.

        Raises:
            StatusError: it was never uploaded, is not kept any more, or the server that has it cannot be reached.
        """
        path = await self._sources.find(namespace, digest)
        await asyncio.to_thread(shutil.copyfile, path, into)


def build_agent(
    config: CellConfig,
    server: ApiServer,
    pki: Pki,
    sources: Sources,
    *,
    address: str,
    api_port: int,
    clock: Clock,
    rng: random.Random,
) -> Agent:
    """The agent of this machine, not started yet."""
    name = config.machine
    user = User(f"system:node:{name}", ("system:nodes", "system:authenticated"))
    runtime = open_runtime(config)
    groups = runtime.control_groups()
    settings = AgentConfig(
        node_name=name,
        directory=config.agent_dir,
        address=address,
        port=0,
        listen=address,
        service=lambda: (address, api_port),
        fences=bool(config.store),
        fence_file=volatile.fence(config.agent_dir) if groups else None,
        groups=groups,
        reboot=lambda: host_commands(config.data_dir).reboot,
    )
    client = Client(InProcessTransport(server, user), field_manager="kubelet")
    return Agent(
        client,
        runtime,
        settings,
        clock=clock,
        rng=rng,
        server_context=pki.agent_server_context(name, [address, name]),
        fetch_source=LocalSources(sources),
        network=build_network(client, runtime, name, clock, rng),
    )

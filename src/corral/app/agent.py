"""This machine's agent, wired to the server in the same process."""

import asyncio
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from corral.agent.agent import Agent, AgentConfig
from corral.agent.images_door import image_routes
from corral.agent.runtime.api import ContainerState
from corral.agent.streams import attach_handler, exec_handler, port_forward_handler
from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import Pki
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.sources import Sources
from corral.app.config import CellConfig
from corral.app.runtime import open_runtime
from corral.base.clock import Clock
from corral.client.client import Client
from corral.kinds.status import bad_request, not_found


class LocalSources:
    """Uploads that lie on this very machine."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def fetch(self, namespace: str, digest: str, into: Path) -> None:
        """Copy the upload `digest` to the file `into`.

        Raises:
            StatusError: it was never uploaded, or is not kept any more.
        """
        await asyncio.to_thread(shutil.copyfile, self._sources.path(digest), into)


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
    settings = AgentConfig(
        node_name=name,
        directory=config.agent_dir,
        address=address,
        port=0,
        listen=address,
        service_host=address,
        service_port=api_port,
    )
    return Agent(
        Client(InProcessTransport(server, user), field_manager="kubelet"),
        open_runtime(config),
        settings,
        clock=clock,
        rng=rng,
        server_context=pki.agent_server_context(name, [address, name]),
        fetch_source=LocalSources(sources),
        streams=routes,
    )


def routes(agent: Agent) -> Sequence[web.RouteDef]:
    """Exec, attach and port forwarding, as the kubelet has them, and the taking in of images."""

    def find_container(namespace: str, pod: str, uid: str, container: str) -> str:
        spec = _pod(agent, namespace, pod, uid)["spec"]
        name = container or spec["containers"][0]["name"]
        found = agent.files.container(namespace, pod, name)
        if found is None:
            raise not_found("", "containers", name)
        if found.state is not ContainerState.RUNNING:
            raise bad_request(f"cannot enter container {name} of pod {pod}: it is {found.state.value}, not running")
        return found.id

    def find_sandbox(namespace: str, pod: str, uid: str) -> str:
        _pod(agent, namespace, pod, uid)
        worker = agent.worker(namespace, pod)
        sandbox = worker.seen.sandbox if worker is not None else None
        if sandbox is None or not sandbox.ready:
            raise bad_request(f"cannot reach pod {pod}: its network is not there yet")
        return sandbox.id

    handlers = [
        ("/exec/{namespace}/{pod}/{container}", exec_handler(agent.runtime, find_container)),
        ("/attach/{namespace}/{pod}/{container}", attach_handler(agent.runtime, find_container)),
        ("/portForward/{namespace}/{pod}", port_forward_handler(agent.runtime, find_sandbox)),
    ]
    streams = [web.route("*", path, handler) for path, handler in handlers]
    return [*streams, *image_routes(agent.runtime.images, agent.layout.root)]


def _pod(agent: Agent, namespace: str, name: str, uid: str) -> dict[str, dict[str, list[dict[str, str]]]]:
    pod = agent.files.pod(namespace, name)
    if pod is None or (uid and pod["metadata"]["uid"] != uid):
        raise not_found("", "pods", name)
    return pod

"""The API server of a cell: state, certificates, authentication and authorization, and the HTTPS front, wired together.

Everything else of a cell is a client of this part.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from corral.apiserver.auth import bootstrap, kubeconfig
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.bootstrap.reconcile import lacking
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.auth.tokens import TokenIssuer
from corral.apiserver.http import HttpFront
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.apiserver.streams import NodeDialer
from corral.app.config import CellConfig, machine_address
from corral.app.ports import cannot_listen
from corral.app.stores import open_store, read_address, remember
from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds.health import PROFILES
from corral.kinds.registry import Registry
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_PATIENCE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Api:
    """A running API server and what the rest of a cell needs of it."""

    server: ApiServer
    pki: Pki
    dialer: NodeDialer
    port: int
    shared: bool
    """Whether other servers may use the same store."""


@asynccontextmanager
async def running_server(
    config: CellConfig, clock: Clock, rng: random.Random, done: Callable[[str, str], None]
) -> AsyncIterator[Api]:
    """Start the API server of a cell; it listens on entry, the kubeconfig is written, and it is stopped on exit.

    `done` is told of each finished step: its name and what came of it.

    Raises:
        CorralError: the data directory or the port cannot be used.
    """
    async with AsyncExitStack() as stack:
        pki = Pki.open(
            config.data_dir / "pki", hosts=[machine_address(), config.host, config.machine, *config.addresses]
        )
        address = read_address(config.store, config.data_dir)
        store = await open_store(address)
        stack.push_async_callback(store.close)
        remember(config.data_dir, config.store)
        done("state", f"{address} at revision {store.revision}")

        tokens = TokenIssuer(pki.service_account_key, store, clock)
        authorizer = CellAuthorizer(store)
        await authorizer.start()
        stack.push_async_callback(authorizer.stop)
        dialer = NodeDialer(pki.client_context("kube-apiserver-kubelet-client", [MASTERS]))
        stack.push_async_callback(dialer.close)
        server = ApiServer(
            store,
            Registry.builtin(),
            authorizer,
            clock=clock,
            rng=rng,
            tokens=tokens,
            node_dialer=dialer,
            unreachable_seconds=PROFILES[config.health_profile].toleration,
        )
        await server.start()
        stack.push_async_callback(server.stop)
        await _create_first_objects(server, clock)
        front = HttpFront(server, CellAuthenticator(tokens, clock), pki.server_context())
        port = await _listen(front, config)
        stack.push_async_callback(front.stop)
        write_kubeconfig(config, pki, port)
        done("api", config.url(port))
        yield Api(server, pki, dialer, port, shared=not isinstance(address, Path))


async def insist(step: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do what may be done twice until the store takes it: while members of etcd change places, it does not.

    Raises:
        StatusError: it takes too long, or is refused for another reason.
    """
    ends = clock.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await step()
        except StatusError as error:
            if error.code != 503 or clock.monotonic() > ends:
                raise
            await clock.sleep(0.2)


async def _create_first_objects(server: ApiServer, clock: Clock) -> None:
    """Create what every cell begins with and this one lacks, and complete the roles that an older Corral has made."""
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
            metadata = obj["metadata"]
            found = server.core.find(kind.resource, metadata.get("namespace", ""), metadata["name"])
            patch = lacking(obj, found) if found is not None else None
            if patch is not None:
                await client.patch(kind.resource, metadata["name"], patch, metadata.get("namespace", ""))

    objects = bootstrap.objects()
    # Namespaces first: everything else may be in one. The rest goes into one group commit.
    for batch in (True, False):
        await asyncio.gather(
            *(insist(partial(create, obj), clock) for obj in objects if (obj["kind"] == "Namespace") is batch)
        )


async def _listen(front: HttpFront, config: CellConfig) -> int:
    try:
        return await front.start(config.host, config.port)
    except OSError as error:
        raise cannot_listen(config, error) from error


def write_kubeconfig(config: CellConfig, pki: Pki, port: int, servers: Sequence[str] = ()) -> None:
    """Write the administrator's kubeconfig, with the URLs of all servers where there are several.

    Raises:
        CorralError: it cannot be written.
    """
    certificate, key = pki.admin()
    url = config.url(port)
    try:
        kubeconfig.write(config.kubeconfig, url, pki.ca_pem, certificate, key, "corral", servers=servers)
    except OSError as error:
        raise CorralError(
            f"cannot write {config.kubeconfig}: {error.strerror}", "free space, or remove what is in its place"
        ) from error

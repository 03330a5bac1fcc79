"""A machine of a cell of two servers on one etcd: it hears of both, and goes on when one ends."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from corral.apiserver.auth.files import write_private
from corral.apiserver.auth.pki import client_context
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.machine import hear_of_servers
from corral.app.membership import Membership
from corral.app.server import Api, running_server
from corral.app.servers import INFO, INFO_NAMESPACE, Roster
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.client.failover import FailoverTransport
from corral.client.http import HttpTransport
from corral.client.informer import Informer
from corral.kinds.resources import CONFIG_MAPS, NODES
from corral.kinds.types import Obj
from corral.testing.clock import FakeClock

from ..store.etcd_cluster import cluster, installed

pytestmark = pytest.mark.skipif(not installed(), reason="no etcd on this machine")
NODE: Obj = {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m1"}}


@dataclass
class Server:
    """One server; `end` stops it."""

    api: Api
    roster: Roster
    running: AsyncExitStack

    async def end(self) -> None:
        await self.running.aclose()


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Server]]:
    with cluster(tmp_path / "etcd") as etcd:
        made: list[Server] = []
        for name in ("a", "b"):
            config = CellConfig(tmp_path / name, port=0, agent=False, node_name=name, store=str(etcd.address))
            prepare_data_dir(config)
            if made:
                share = tmp_path / name / "pki"
                share.mkdir(mode=0o700)
                for file in ("ca.key", "ca.crt", "sa.key"):
                    write_private(share / file, (tmp_path / "a" / "pki" / file).read_bytes())
            stack = AsyncExitStack()
            starting = running_server(config, SystemClock(), random.Random(1), lambda name, what: None)
            api = await stack.enter_async_context(starting)
            roster = Roster(api.server, api.pki, config.url(api.port), SystemClock(), shared=True)
            made.append(Server(api, roster, stack))
            await roster.tell()
        yield made
        for server in made:
            await server.end()


def identity(api: Api, directory: Path) -> ssl.SSLContext:
    certificate, key = api.pki.issue_client("system:node:m1", ["system:nodes"], timedelta(hours=1))
    write_private(directory / "m1.pem", certificate + key)
    context = client_context(api.pki.ca_pem)
    context.load_cert_chain(directory / "m1.pem")
    return context


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.02)


async def test_a_machine_hears_of_all_servers_and_goes_on_when_its_own_ends(
    servers: list[Server], tmp_path: Path
) -> None:
    first, second = servers
    membership = Membership(first.roster.url, "m1", {}, [], {}, "127.0.0.9")
    membership.save(tmp_path)
    tls = identity(first.api, tmp_path)
    transport = FailoverTransport([first.roster.url], lambda url: HttpTransport(url, tls))
    client, clock, rng = Client(transport), SystemClock(), random.Random(1)
    hearing = asyncio.create_task(hear_of_servers(tmp_path, membership, transport, client, clock, rng))
    nodes = Informer(client, NODES, field_selector="metadata.name=m1", clock=clock, rng=rng)
    following = asyncio.create_task(nodes.run())
    try:
        await client.create(NODES, NODE)
        both = (first.roster.url, second.roster.url)
        await until(lambda: transport.servers == both)
        assert Membership.load(tmp_path).servers == both  # type: ignore[union-attr]
        await first.end()
        await client.patch(NODES, "m1", {"metadata": {"annotations": {"by": "second"}}})
        await until(lambda: any(node["metadata"].get("annotations") for node in nodes.items()))
        assert transport.current == second.roster.url
    finally:
        for task in (hearing, following):
            task.cancel()
        await asyncio.gather(hearing, following, return_exceptions=True)
        await transport.close()


async def test_the_line_to_join_by_names_a_server_that_lives_and_who_is_gone_for_good_is_forgotten(
    servers: list[Server],
) -> None:
    first, second = servers
    assert first.roster.others() == [second.roster.url]
    assert (await published(second))["server"] == first.roster.url
    clock = FakeClock(SystemClock().now() + timedelta(seconds=60))
    later = Roster(second.api.server, second.api.pki, second.roster.url, clock, shared=True)
    await later.tell()
    assert (await published(second))["server"] == second.roster.url
    assert (await published(second))["servers"].split() == sorted([first.roster.url, second.roster.url])
    await clock.advance(3600)
    await later.tell()
    assert later.others() == []
    assert (await published(second))["servers"] == second.roster.url


async def published(server: Server) -> dict[str, str]:
    info = server.api.server.core.find(CONFIG_MAPS, INFO_NAMESPACE, INFO)
    assert info is not None
    return dict(info["data"])

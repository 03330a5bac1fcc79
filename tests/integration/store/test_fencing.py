"""Several servers on one etcd: one acts, another takes over, and who was replaced can change nothing any more."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.app import joining, manager
from corral.app.cell import Cell, running_cell
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.manager import begin_term
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds.resources import DEPLOYMENTS, LEASES, PODS
from corral.kinds.servers import NAMESPACE, leader
from corral.kinds.types import Obj
from corral.store.etcd.store import EtcdStore
from corral.store.fence import FENCE, Fence, Fenced
from corral.store.protocol import Full, Unavailable
from corral.testing.store_suite import wrote

from .etcd_cluster import EtcdCluster, cluster, installed

pytestmark = pytest.mark.skipif(not installed(), reason="etcd is not installed (Debian: etcd-server)")


@pytest.fixture
def etcd(tmp_path: Path) -> Any:
    with cluster(tmp_path) as made:
        yield made


async def test_writes_of_a_replaced_leader_are_refused(etcd: EtcdCluster) -> None:
    old, new = await EtcdStore.open(etcd.address), await EtcdStore.open(etcd.address)
    token = FENCE.set(await begin_term(old, "old"))
    entry = wrote(await old.create("/a", b"1"))
    await new.refresh()
    replaced = asyncio.create_task(begin_term(new, "new"))
    fence = await replaced
    with pytest.raises(Fenced):
        await old.update("/a", b"2", entry.revision)
    FENCE.set(fence)
    assert wrote(await new.update("/a", b"3", entry.revision)).value == b"3"
    FENCE.reset(token)
    await old.close()
    await new.close()


def config(directory: Path, name: str, etcd: EtcdCluster) -> CellConfig:
    made = CellConfig(directory / name, "127.0.0.1", 0, agent=False, node_name=name, store=str(etcd.address))
    prepare_data_dir(made)
    return made


def admin(cell: Cell) -> Client:
    return Client(InProcessTransport(cell.server, User("admin", (MASTERS, "system:authenticated"))))


@pytest.fixture
async def servers(tmp_path: Path, etcd: EtcdCluster) -> AsyncIterator[tuple[tuple[Cell, AsyncExitStack], ...]]:
    """Two servers of one cell, the second one joined to the first, and what ends each of them."""
    stacks = AsyncExitStack(), AsyncExitStack()
    first = await stacks[0].enter_async_context(running_cell(config(tmp_path, "one", etcd), lambda *step: None))
    joined = config(tmp_path, "two", etcd)
    url = await asyncio.to_thread(joining.join, joined, first.config.kubeconfig)
    second = await stacks[1].enter_async_context(running_cell(replace(joined, store=url), lambda *step: None))
    yield (first, stacks[0]), (second, stacks[1])
    for stack in stacks:
        await stack.aclose()


def deployment(name: str) -> Obj:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


async def pods_of(client: Client, name: str, number: int) -> list[Obj]:
    """The pods of a Deployment as soon as there are so many."""
    async with asyncio.timeout(20):
        while True:
            listed = await client.list(PODS, "default", label_selector=f"app={name}")
            if len(listed["items"]) >= number:
                items: list[Obj] = listed["items"]
                return items
            version = listed["metadata"]["resourceVersion"]
            async with client.watch(PODS, "default", resource_version=version) as events:
                await anext(events)


async def leader_of(cell: Any) -> int:
    """The port of the server that leads."""
    leases = (await admin(cell).list(LEASES, NAMESPACE))["items"]
    return int(leader(leases).rpartition(":")[2])


async def test_the_other_server_takes_over(servers: Any) -> None:
    (first, end_first), (second, _) = servers
    await admin(first).create(DEPLOYMENTS, deployment("before"))
    assert len(await pods_of(admin(second), "before", 2)) == 2
    assert await leader_of(second) == first.port
    await end_first.aclose()
    await admin(second).create(DEPLOYMENTS, deployment("after"))
    assert len(await pods_of(admin(second), "after", 2)) == 2
    assert await leader_of(second) == second.port


async def test_both_serve_and_one_makes_each_pod(servers: Any) -> None:
    clients = [admin(server) for server, _ in servers]
    names = [f"d{number}" for number in range(10)]
    random.Random(1).shuffle(names)
    await asyncio.gather(
        *(clients[number % 2].create(DEPLOYMENTS, deployment(name)) for number, name in enumerate(names))
    )
    # One server may show a moment later what the other one has.
    for client in reversed(clients):
        for name in names:
            assert len(await pods_of(client, name, 2)) == 2
    assert len((await clients[0].list(PODS, "default"))["items"]) == 20


async def test_a_cell_on_sqlite_says_how_to_get_a_second_server(tmp_path: Path, etcd: EtcdCluster) -> None:
    alone = CellConfig(tmp_path / "alone", "127.0.0.1", 0, agent=False, node_name="alone")
    prepare_data_dir(alone)
    async with running_cell(alone, lambda *step: None):
        with pytest.raises(CorralError, match="corral store migrate"):
            await asyncio.to_thread(joining.join, config(tmp_path, "two", etcd), alone.kubeconfig)


@pytest.mark.parametrize("why", [Unavailable, Full])
async def test_a_term_that_could_not_begin_does_not_end_the_server(
    tmp_path: Path, etcd: EtcdCluster, monkeypatch: pytest.MonkeyPatch, why: type[CorralError]
) -> None:
    tries: list[str] = []

    async def begin(store: Any, identity: str) -> Fence:
        tries.append(identity)
        if len(tries) == 1:
            raise why("no majority, or no room")
        return await begin_term(store, identity)

    monkeypatch.setattr(manager, "begin_term", begin)
    async with running_cell(config(tmp_path, "one", etcd), lambda *step: None) as cell:
        await admin(cell).create(DEPLOYMENTS, deployment("d"))
        assert len(await pods_of(admin(cell), "d", 2)) == 2
    assert len(tries) == 2

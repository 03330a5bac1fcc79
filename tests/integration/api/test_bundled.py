"""Definitions that come with Corral are there at once, kept up to date, and given up to whoever writes to them."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from corral.apiserver import bundled as installer
from corral.apiserver.auth.api import User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import SystemClock
from corral.client.api import ApiRequest
from corral.client.client import Client
from corral.kinds.bundled import ANNOTATION, Bundled, bundled
from corral.kinds.registry import Registry
from corral.kinds.resources import CLUSTER_QUEUES, CUSTOM_RESOURCE_DEFINITIONS
from corral.kinds.types import Obj
from corral.store.memory import MemoryStore

NAME = "clusterqueues.kueue.x-k8s.io"


@asynccontextmanager
async def served(store: MemoryStore) -> AsyncIterator[Client]:
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    rng = random.Random(1)
    server = ApiServer(
        store, Registry.builtin(), authorizer, clock=SystemClock(), rng=rng, tokens=None, node_dialer=None
    )
    await server.start()
    yield Client(InProcessTransport(server, User("admin", ("system:masters",))), field_manager="kubectl")
    await server.stop()
    await authorizer.stop()


def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start is one of a Corral whose definitions are all one number further."""
    files = [
        Bundled(file.name, file.number + 1, file.text.replace(f'"{file.number}"', f'"{file.number + 1}"', 1))
        for file in bundled()
    ]
    monkeypatch.setattr(installer, "bundled", lambda: iter(files))


def number_of(crd: Obj) -> str:
    return str(crd["metadata"]["annotations"][ANNOTATION])


async def test_the_kinds_are_served_as_soon_as_the_server_has_started() -> None:
    async with served(MemoryStore()) as client:
        assert (await client.list(CLUSTER_QUEUES))["items"] == []
        crd = await client.get(CUSTOM_RESOURCE_DEFINITIONS, NAME)
    assert [condition["status"] for condition in crd["status"]["conditions"]] == ["True", "True"]
    assert crd["status"]["storedVersions"] == ["v1beta2"]
    assert crd["metadata"]["generation"] == 1


async def test_a_restart_writes_nothing() -> None:
    store = MemoryStore()
    async with served(store):
        pass
    revision = store.revision
    async with served(store):
        assert store.revision == revision


async def test_an_older_one_of_ours_is_replaced_and_its_objects_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    async with served(store) as client:
        before = await client.get(CUSTOM_RESOURCE_DEFINITIONS, NAME)
        await client.create(
            CLUSTER_QUEUES, {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "q"}}
        )
    newer(monkeypatch)
    async with served(store) as client:
        after = await client.get(CUSTOM_RESOURCE_DEFINITIONS, NAME)
        assert [queue["metadata"]["name"] for queue in (await client.list(CLUSTER_QUEUES))["items"]] == ["q"]
    assert int(number_of(after)) == int(number_of(before)) + 1
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["generation"] == 2


async def test_one_that_somebody_else_wrote_to_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    async with served(store) as client:
        patched = await client.patch(CUSTOM_RESOURCE_DEFINITIONS, NAME, {"spec": {"names": {"categories": ["mine"]}}})
    newer(monkeypatch)
    async with served(store) as client:
        found = await client.get(CUSTOM_RESOURCE_DEFINITIONS, NAME)
    assert number_of(found) == number_of(patched)
    assert found["spec"]["names"]["categories"] == ["mine"]


async def test_the_versions_are_two_views_of_one_object() -> None:
    old = {"apiVersion": "kueue.x-k8s.io/v1beta1", "kind": "ClusterQueue", "metadata": {"name": "q"}}
    v1beta1 = "/apis/kueue.x-k8s.io/v1beta1/clusterqueues"
    async with served(MemoryStore()) as client:
        body = orjson.dumps({**old, "spec": {"cohort": "team"}})
        created = await client.transport.call(ApiRequest("POST", v1beta1, {}, body))
        assert created.status == 201
        assert orjson.loads(created.body)["spec"]["cohort"] == "team"
        newer_view = await client.get(CLUSTER_QUEUES, "q")
        assert newer_view["spec"]["cohortName"] == "team"
        assert newer_view["spec"]["flavorFungibility"]["whenCanBorrow"] == "MayStopSearch"
        assert "cohort" not in newer_view["spec"]

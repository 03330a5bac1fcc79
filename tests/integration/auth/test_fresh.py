"""Answers against a store on disk: what was acknowledged counts at once, under load too."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from corral.apiserver.auth.api import Attributes, User
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.bootstrap import build
from corral.store.protocol import Conflict, Entry
from corral.store.sqlite import SqliteStore

_PREFIX = "/rbac.authorization.k8s.io"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "state.db")
    yield store
    await store.close()


def written(outcome: Entry | Conflict) -> Entry:
    assert isinstance(outcome, Entry)
    return outcome


async def test_a_grant_and_its_end_count_for_the_next_question(store: SqliteStore) -> None:
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    ann = User("ann", ("system:authenticated",))
    question = Attributes("get", "", "pods", namespace="a")
    busy = asyncio.create_task(_write_other_things(store))
    try:
        role = orjson.dumps(build.role("a", "r", [build.allow("get", "pods")]))
        binding = orjson.dumps(build.binding("a", "r", "r", build.user("ann")))
        written(await store.create(f"{_PREFIX}/roles/a/r", role))
        for _ in range(50):
            entry = written(await store.create(f"{_PREFIX}/rolebindings/a/r", binding))
            assert authorizer.authorize(ann, question).allowed
            written(await store.delete(entry.key, entry.revision))
            assert not authorizer.authorize(ann, question).allowed
    finally:
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await authorizer.stop()


async def test_a_pod_bound_just_now_gives_its_node_its_secret(store: SqliteStore) -> None:
    authorizer = CellAuthorizer(store)
    await authorizer.start()
    node = User("system:node:n1", ("system:nodes", "system:authenticated"))
    try:
        for number in range(50):
            name = f"s{number}"
            volumes = [{"name": "v", "secret": {"secretName": name}}]
            pod = {"metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": "n1", "volumes": volumes}}
            question = Attributes("get", "", "secrets", namespace="a", name=name)
            assert not authorizer.authorize(node, question).allowed
            entry = written(await store.create(f"/core/pods/a/{name}", orjson.dumps(pod)))
            assert authorizer.authorize(node, question).allowed
            await store.delete(entry.key, entry.revision)
    finally:
        await authorizer.stop()


async def _write_other_things(store: SqliteStore) -> None:
    number = 0
    while True:
        number += 1
        await store.create(f"/core/configmaps/a/{number}", b"{}")

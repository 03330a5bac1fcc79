"""SIGKILL of a whole API server at any moment costs no acknowledged write.

A server as a cell composes it (store, certificates, authorization, HTTPS front) is killed over and over while several
clients write through TLS. After each restart every acknowledged write is there with its resourceVersion, and a write
that was under way is there as a whole or not at all.
"""

import asyncio
import random
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corral.client import kubeconfig
from corral.client.client import Client
from corral.client.http import HttpTransport
from corral.kinds.resources import CONFIG_MAPS, DEPLOYMENTS
from corral.kinds.types import Obj, Resource

_KILLS = 200
_CLIENTS = 6
_NAMES = 4
"""Of each kind, for each client."""
_MOST_WRITES = 60
_START_KILLED = 0.1
"""The share of servers that are killed while they start."""
_NURSERY = Path(__file__).with_name("nursery.py")
_KINDS = (CONFIG_MAPS, DEPLOYMENTS)
_LABEL = "crash"

_Id = tuple[str, str]
"""Plural and name."""
_State = tuple[int, int] | None
"""Revision and number of an object, or None where there is none."""


@dataclass
class _Nursery:
    """The process that starts and kills servers."""

    process: asyncio.subprocess.Process

    def order(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def until(self, *words: str) -> str:
        """The next line that begins with one of the words."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            if line.startswith(words):
                return line.strip()
        raise AssertionError(f"the nursery ended instead of saying {' or '.join(words)}")


@asynccontextmanager
async def _nursery(directory: Path) -> AsyncIterator[_Nursery]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_NURSERY), str(directory), stdin=pipe, stdout=pipe
    )
    assert process.stdin is not None
    try:
        yield _Nursery(process)
    finally:
        process.stdin.close()
        await process.wait()


@dataclass
class _World:
    """What must be on the server."""

    acknowledged: dict[_Id, _State] = field(default_factory=dict)
    under_way: dict[_Id, int | None] = field(default_factory=dict)
    """The number that an unanswered write gives the object; None: it deletes it."""
    revision: int = 0
    """What the store's revision must be without the writes that were under way."""
    number: int = 0
    writes: int = 0

    def check(self, found: dict[_Id, tuple[int, int]], revision: int) -> int:
        """Compare with what is there after a restart, and take it over; returns how many open writes came through."""
        came_through = 0
        for what, state in self.acknowledged.items():
            now = found.get(what)
            if now == state:
                continue
            assert what in self.under_way, f"{what} was acknowledged as {state} and is {now}"
            wanted = self.under_way[what]
            assert (now[1] if now else None) == wanted, f"{what} became {now}, neither {state} nor {wanted}"
            assert now is None or now[0] > (state[0] if state else 0)
            came_through += 1
        assert found.keys() <= self.acknowledged.keys()
        assert revision == self.revision + came_through, "a revision was lost, or is of a write that nobody made"
        self.acknowledged = {what: found.get(what) for what in self.acknowledged}
        self.under_way.clear()
        self.revision = revision
        return came_through


def _obj(resource: Resource, name: str, number: int) -> Obj:
    """An object that carries its number in several places: half a write would show."""
    metadata: Obj = {"name": name, "namespace": "default", "labels": {_LABEL: "yes"}}
    metadata["annotations"] = {"number": str(number)}
    if resource == CONFIG_MAPS:
        filling = "." * (number * 37 % 2_000)
        data = {"first": str(number), "filling": filling, "last": str(number)}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    pod = {"containers": [{"name": "main", "image": "host", "env": [{"name": "NUMBER", "value": str(number)}]}]}
    labels = {"app": name}
    spec = {
        "replicas": number,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _number(obj: Obj) -> int:
    number = int(obj["metadata"]["annotations"]["number"])
    if "data" in obj:
        places = [obj["data"]["first"], obj["data"]["last"]]
        assert len(obj["data"]["filling"]) == number * 37 % 2_000
    else:
        env = obj["spec"]["template"]["spec"]["containers"][0]["env"]
        places = [obj["spec"]["replicas"], env[0]["value"]]
    assert all(int(place) == number for place in places), f"half a write: {obj}"
    return number


def _change(resource: Resource, number: int) -> Obj:
    """A merge patch to another number."""
    full = _obj(resource, "", number)
    patch: Obj = {"metadata": {"annotations": full["metadata"]["annotations"]}}
    if resource == CONFIG_MAPS:
        return {**patch, "data": full["data"]}
    return {**patch, "spec": {"replicas": number, "template": {"spec": full["spec"]["template"]["spec"]}}}


class _Writer:
    """One client with objects of its own."""

    def __init__(self, client: Client, world: _World, rng: random.Random, index: int, done: asyncio.Event) -> None:
        self._client, self._world, self._rng, self._index, self._done = client, world, rng, index, done

    async def run(self, enough: int) -> None:
        """Write until the server is gone; sets `done` as soon as all writers together have `enough`."""
        while True:
            resource = self._rng.choice(_KINDS)
            what = (resource.plural, f"w{self._index}-{self._rng.randrange(_NAMES)}")
            try:
                revision = await self._write(resource, what)
            except OSError:
                return
            self._world.writes += 1
            number = self._world.under_way.pop(what)
            self._world.acknowledged[what] = None if number is None else (revision, number)
            self._world.revision += 1
            if self._world.writes >= enough:
                self._done.set()

    async def _write(self, resource: Resource, what: _Id) -> int:
        """One write of a random sort; its revision (0 for a delete)."""
        world, name = self._world, what[1]
        world.number += 1
        number = world.number
        state = world.acknowledged.setdefault(what, None)
        world.under_way[what] = number
        if state is None:
            written = await self._client.create(resource, _obj(resource, name, number))
        elif self._rng.random() < 0.25:
            world.under_way[what] = None
            await self._client.delete(resource, name, "default")
            return 0
        elif self._rng.random() < 0.5:
            obj = _obj(resource, name, number)
            obj["metadata"]["resourceVersion"] = str(state[0])
            written = await self._client.update(resource, obj)
        else:
            written = await self._client.patch(resource, name, _change(resource, number), "default")
        revision = int(written["metadata"]["resourceVersion"])
        assert revision > (state[0] if state else 0)
        assert _number(written) == number
        return revision


async def _read(client: Client) -> tuple[dict[_Id, tuple[int, int]], int]:
    """Everything that is there, and the revision."""
    found: dict[_Id, tuple[int, int]] = {}
    revision = 0
    for resource in _KINDS:
        listed = await client.list(resource, label_selector=_LABEL)
        revision = max(revision, int(listed["metadata"]["resourceVersion"]))
        for item in listed["items"]:
            metadata = item["metadata"]
            found[resource.plural, metadata["name"]] = (int(metadata["resourceVersion"]), _number(item))
    return found, revision


async def _round(nursery: _Nursery, directory: Path, world: _World, trust: list[ssl.SSLContext], seed: int) -> int:
    """Start a server, check it, write, kill it; returns how many of the last server's open writes came through."""
    rng = random.Random(seed)
    nursery.order("start")
    if rng.random() < _START_KILLED:
        await nursery.until("step state", "step api")
    else:
        port = (await nursery.until("ready")).split()[1]
        if not trust:
            context = kubeconfig.load(directory / "kubeconfig").ssl_context()
            assert context is not None
            trust.append(context)
        transport = HttpTransport(f"https://127.0.0.1:{port}", trust[0])
        try:
            found, revision = await _read(Client(transport))
            if not world.acknowledged:
                world.revision = revision
            came_through = world.check(found, revision)
            enough = world.writes + rng.randint(1, _MOST_WRITES)
            done = asyncio.Event()
            writers = [_Writer(Client(transport), world, random.Random(rng.random()), i, done) for i in range(_CLIENTS)]
            async with asyncio.TaskGroup() as tasks:
                for writer in writers:
                    tasks.create_task(writer.run(enough))
                await done.wait()
                nursery.order("kill")
                await nursery.until("dead")
        finally:
            await transport.close()
        return came_through
    nursery.order("kill")
    await nursery.until("dead")
    return 0


@pytest.mark.timeout(300)
async def test_no_acknowledged_write_is_lost_by_killing_the_server(tmp_path: Path) -> None:
    world = _World()
    trust: list[ssl.SSLContext] = []
    came_through = 0
    async with _nursery(tmp_path / "cell") as nursery:
        for seed in range(_KILLS + 1):
            came_through += await _round(nursery, tmp_path / "cell", world, trust, seed)
    assert world.writes > 10 * _KILLS
    # Some of the kills must have hit a server between a commit and its answer, else they proved little.
    assert came_through > 0

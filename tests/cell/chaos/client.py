"""Who uses the cell while things break, and keeps book: a writer, several that share a set, a visitor, an observer."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds import conditions
from corral.kinds.resources import CONFIG_MAPS, ENDPOINT_SLICES, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

from .model import History, Outcome, Write
from .workloads import PORT, SERVING

NAMESPACE: Final = "default"
SET: Final = "shared-set"
_PREFIX: Final = "written-"
_OWNER: Final = "kubernetes.io/service-name"
_NO_ROOM: Final = 507
_FLOOD_BYTES: Final = 500_000
_FLOOD_MOST: Final = 100
_KEYS: Final = 20
_ANSWER_SECONDS: Final = 3.0
_VISIT_SECONDS: Final = 1.0


async def attempt(call: Awaitable[Obj]) -> tuple[Outcome, Obj | None]:
    """Make a call; how it ended, and what came back."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return Outcome.OK, await call
    except StatusError as error:
        definite = (400 <= error.code < 500 and error.code != 429) or error.code == _NO_ROOM
        return (Outcome.REFUSED if definite else Outcome.UNKNOWN), None
    except OSError:  # TimeoutError is one
        return Outcome.UNKNOWN, None


def _map(name: str, data: dict[str, str]) -> Obj:
    metadata = {"name": name, "namespace": NAMESPACE} if name else {"generateName": "flood-", "namespace": NAMESPACE}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data}


class Users:
    """Clients of several servers at once, and the history that they write.

    Args:
        now: seconds since the history began.
    """

    def __init__(self, clients: Sequence[Client], history: History, now: Callable[[], float], seed: int) -> None:
        self._clients = clients
        self._history = history
        self._now = now
        self._seed = seed
        self._numbers = itertools.count()
        self.slices = [Informer(one, ENDPOINT_SLICES, namespace=NAMESPACE, clock=SystemClock()) for one in clients]
        self.nodes = [Informer(one, NODES, clock=SystemClock()) for one in clients]
        self.maps = [Informer(one, CONFIG_MAPS, namespace=NAMESPACE, clock=SystemClock()) for one in clients]

    def restart(self, now: Callable[[], float]) -> None:
        """Count time from now on by `now`, and forget what was seen before, but for how things stand."""
        self._now = now
        self._history.endpoints = [(0.0, nodes) for _, nodes in self._history.endpoints[-1:]]
        self._history.ready = [(0.0, name, ready) for name, ready in {n: r for _, n, r in self._history.ready}.items()]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow what changes, on every server."""
        for informer in self.nodes:
            informer.on_event(self._node)
        for informer in self.slices:
            informer.on_event(lambda _: self._endpoints())
        async with _tasks(informer.run() for informer in [*self.slices, *self.nodes, *self.maps]):
            yield

    @asynccontextmanager
    async def using(self) -> AsyncIterator[None]:
        """Write and visit."""
        await self._clients[0].create(CONFIG_MAPS, _map(SET, {"tokens": ""}))
        adders = [self._add(random.Random(f"add {number} {self._seed}")) for number in range(2)]
        async with _tasks([self._write(random.Random(f"write {self._seed}")), self._visit(), *adders]):
            yield

    async def _write(self, rng: random.Random) -> None:
        """Create, change and delete ConfigMaps, each time on any server.

        What changes or deletes names the revision that it follows, and no name is created twice: so what an answer was
        lost of, and a frozen server does later, cannot undo what was acknowledged meanwhile.
        """
        generations = Counter[int]()
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.1))
            slot, client = rng.randrange(_KEYS), rng.choice(self._clients)
            name, value = f"{_PREFIX}{slot}-{generations[slot]}", str(next(self._numbers))
            outcome, found = await attempt(client.get(CONFIG_MAPS, name, NAMESPACE))
            if found is None and outcome is Outcome.REFUSED:
                generations[slot] += 1
                name = f"{_PREFIX}{slot}-{generations[slot]}"
                await self._try(name, value, client.create(CONFIG_MAPS, _map(name, {"value": value})))
            elif found is not None and rng.random() < 0.2:
                revision = found["metadata"]["resourceVersion"]
                await self._try(name, None, client.delete(CONFIG_MAPS, name, NAMESPACE, resource_version=revision))
            elif found is not None:
                await self._try(name, value, client.update(CONFIG_MAPS, {**found, "data": {"value": value}}))

    async def _try(self, name: str, value: str | None, call: Awaitable[Obj]) -> None:
        """Write and keep book, also of what the end of the run interrupts."""
        outcome = Outcome.UNKNOWN
        try:
            outcome, _ = await attempt(call)
        finally:
            kept = self._history.appends if name == SET else self._history.writes
            kept.append(Write(name, value, outcome, self._now()))

    async def _add(self, rng: random.Random) -> None:
        """Add a token to the one set, again and again."""
        while True:
            await asyncio.sleep(rng.uniform(0.1, 0.3))
            client, token = rng.choice(self._clients), str(next(self._numbers))
            _, found = await attempt(client.get(CONFIG_MAPS, SET, NAMESPACE))
            if found is not None:
                tokens = f"{found['data']['tokens']} {token}".strip()
                await self._try(SET, token, client.update(CONFIG_MAPS, {**found, "data": {"tokens": tokens}}))

    async def _visit(self) -> None:
        """Ask the Deployment by an endpoint that is ready, as a proxy with fresh news would, 20 times a second."""
        rng = random.Random(f"visit {self._seed}")
        timeout = aiohttp.ClientTimeout(total=_VISIT_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        async with (
            aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
            asyncio.TaskGroup() as visits,
        ):
            while True:
                await asyncio.sleep(0.05)
                ready = self._ready()
                if ready:
                    visits.create_task(self._ask(session, rng.choice(ready)["addresses"][0]))
                else:
                    self._history.requests.append((self._now(), False))

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> None:
        began = self._now()
        answered = False
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with session.get(f"http://{address}:{PORT}/") as response:
                answered = response.status == 200 and bool(await response.text())
        self._history.requests.append((began, answered))

    def _ready(self) -> list[Any]:
        """The endpoints that the best informed server says are ready."""
        freshest = max(self.slices, key=lambda informer: informer.revision)
        slices = [one for one in freshest.items() if one["metadata"]["labels"].get(_OWNER) == SERVING]
        return [end for one in slices for end in one.get("endpoints") or () if end["conditions"].get("ready")]

    def _endpoints(self) -> None:
        nodes = tuple(sorted(end.get("nodeName", "") for end in self._ready()))
        if not self._history.endpoints or self._history.endpoints[-1][1] != nodes:
            self._history.endpoints.append((self._now(), nodes))

    def _node(self, event: Event) -> None:
        name = event.obj["metadata"]["name"]
        ready = event.new is not None and conditions.is_true(event.new, "Ready")
        known = next((was for _, node, was in reversed(self._history.ready) if node == name), None)
        if known != ready:
            self._history.ready.append((self._now(), name, ready))


@asynccontextmanager
async def _tasks(coroutines: Any) -> AsyncIterator[None]:
    """Run them until the block ends; one that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(one) for one in coroutines]
        yield
        for task in started:
            task.cancel()


async def flood(client: Client) -> int:
    """Write as much as the store takes; how many objects that were."""
    for number in range(_FLOOD_MOST):
        try:
            await client.create(CONFIG_MAPS, _map("", {"value": "x" * _FLOOD_BYTES}))
        except StatusError as error:
            if error.code == _NO_ROOM:
                return number
            raise
    raise AssertionError("a full disk never becomes full")


async def read_all(client: Client, history: History) -> None:
    """What a server holds in the end, of what was written."""
    for obj in (await client.list(CONFIG_MAPS, NAMESPACE))["items"]:
        name = obj["metadata"]["name"]
        if name == SET:
            history.tokens = obj["data"]["tokens"].split()
        elif name.startswith(_PREFIX):
            history.final[name] = obj["data"]["value"]


def wall_clock() -> Callable[[], float]:
    """Seconds since now, on the clock that the containers note their times by."""
    began = time.time()
    return lambda: time.time() - began

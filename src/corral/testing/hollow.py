"""Hollow machines: the agents of joined machines, on a runtime that only pretends, many in one process.

Towards the servers everything is real, because it is the same code: the token, the certificate requests, TLS, the Lease
and its fence, the Node's status, watches, tokens, events, each pod's worker and its status. What is hollow is the
machine below: containers are entries of a dictionary, every image is there, and what volumes would show is asked of the
API and then written nowhere. So one machine can play a thousand (kubemark does it for Kubernetes).

    python -m corral.testing.hollow SERVER TOKEN HASH [--machines N] [--first N] [--directory DIR]

One process has the work of all its machines to do: so that their heartbeats are not late for it, at most `--at-once`
pods of it are being started at any time; the others wait for their turn. SERVER, TOKEN and HASH are those of the line
that `corral token create` prints. A line on stdout says when all machines are ready; then each line on stdin names a
machine that dies as in a power cut, and the end of stdin ends all of them.
"""

import asyncio
import logging
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import click

from corral.agent.agent import Agent
from corral.agent.problems.api import Finding, Sample, Source
from corral.agent.problems.runtime import RuntimeSource
from corral.agent.problems.skew import SkewSource
from corral.agent.problems.sources import Surroundings
from corral.agent.runtime.api import Image
from corral.agent.volumes import projected
from corral.agent.volumes.api import VolumeContext
from corral.agent.volumes.manager import VolumeManager
from corral.agent.worker import PodWorker
from corral.app.config import CellConfig
from corral.app.machine import Ground, Parts, running_machine
from corral.app.membership import Membership, enrol
from corral.base import memory
from corral.base.clock import Clock, SystemClock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds import conditions
from corral.kinds.podnetwork import SPACE
from corral.kinds.resources import HOST_SUBNETS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.fake_process import FakeProcess, Program
from corral.testing.fake_runtime import FakeImages, FakeRuntime
from corral.wire.loops import run

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

CAPACITY: Final = {"cpu": 32_000, "memory": 128 << 30, "ephemeral-storage": 500 << 30, "pods": 110}
_ZONES: Final = 10
_TOGETHER: Final = 20
"""Machines that join at a time."""
_SETTLE_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.25
_LOOKS: Final = 120
"""After half a minute a pod has had its turn, ready or not."""


class _Images(FakeImages):
    """Whatever is asked for is there."""

    async def status(self, reference: str) -> Image | None:
        return await super().status(reference) or self.add(reference, {"Cmd": ["pause"]})


async def _forever(process: FakeProcess) -> int:
    await asyncio.get_running_loop().create_future()
    return 0


class _Anything(dict[str, Program]):
    """A program for each name, which runs until it is stopped."""

    def get(self, key: str, default: object = None) -> Program:
        return super().get(key, _forever)


class HollowRuntime(FakeRuntime):
    """Runs everything, without end."""

    def __init__(self, config: CellConfig) -> None:
        super().__init__(SystemClock(), config.agent_dir / "runtime")
        self.images = _Images()
        self.programs = _Anything(self.programs)

    async def close(self) -> None:
        """Containers end with their machine."""
        await super().close()
        self.stop_all()


class HollowVolumes(VolumeManager):
    """Asks the API for what volumes show, and forgets it."""

    async def prepare_one(self, volume: Obj, context: VolumeContext) -> Path:
        if "projected" in volume:
            await projected.payload(volume["projected"], context)
        return context.local_volumes


class HollowNetwork:
    """Waits until its pods have their subnet, hears of those of all other machines, and keeps no routes.

    It begins to hear of others when all machines of the process are there: a thousand machines that join are a million
    events, which real ones take in a thousand processes.
    """

    def __init__(self, client: Client, name: str, complete: asyncio.Event) -> None:
        self._client = client
        self._complete = complete
        self._name = name
        self._changed: Callable[[], None] = lambda: None
        number = int(name.rpartition("-")[2])
        self.proposal = str(IPv4Network((int(SPACE.network_address) + (number << 8), 24)))
        self.trouble = "no subnet yet"
        self.settled = asyncio.Event()

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def run(self) -> None:
        """Follow the HostSubnets."""
        while True:
            try:
                if self.trouble:
                    await self._follow(f"metadata.name={self._name}")
                    self.settled.set()
                    self._changed()
                await self._complete.wait()
                await self._follow("")
            except (StatusError, OSError):
                await asyncio.sleep(1.0)

    async def _follow(self, selector: str) -> None:
        """Read on until its own is there, or for as long as the watch lasts."""
        listed = await self._client.list(HOST_SUBNETS, field_selector=selector, limit=1)
        self._hear(*listed["items"])
        version = listed["metadata"]["resourceVersion"]
        async with self._client.watch(HOST_SUBNETS, resource_version=version, field_selector=selector) as events:
            if selector and not self.trouble:
                return
            async for event in events:
                self._hear(event.object)
                if selector and not self.trouble:
                    return

    def _hear(self, *subnets: Obj) -> None:
        if any(subnet["metadata"].get("name") == self._name for subnet in subnets):
            self.trouble = ""


_FINE: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "ReadonlyFilesystem", "DiskErrors", "OOMStorm")


class _Fine(Source[None]):
    """Nothing is wrong with the machine."""

    types = _FINE
    period = 60.0
    keep = 60.0

    async def read(self) -> None:
        return None

    @staticmethod
    def judge(samples: Sequence[Sample[None]], now: float) -> Sequence[Finding]:
        return [Finding(type_, False, "Hollow", "nothing ever happens to a hollow machine") for type_ in _FINE]


class HollowAgent(Agent):
    """An agent that takes its turn among all of the process before it begins with a pod."""

    volume_manager = HollowVolumes

    def __init__(self, *arguments: Any, turns: asyncio.Semaphore, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns = turns

    async def _live(self, worker: PodWorker) -> None:
        async with self._turns:
            life = asyncio.create_task(super()._live(worker), name=f"life of {worker.key}")
            try:
                for _ in range(_LOOKS):
                    await asyncio.wait({life}, timeout=_LOOK_SECONDS)
                    if life.done() or conditions.is_true(worker.pod, "Ready"):
                        break
            except asyncio.CancelledError:
                life.cancel()
                await asyncio.wait({life})
                raise
        await life


def _sources(around: Surroundings) -> Sequence[Source[Any]]:
    return (_Fine(), SkewSource(around.date, around.clock), RuntimeSource(around.runtime))


def membership(server: str, number: int) -> Membership:
    """Machine `number`, on a loopback address of its own."""
    high, low = divmod(number, 250)
    labels = {"topology.kubernetes.io/zone": f"zone-{number % _ZONES}"}
    return Membership(server, f"hollow-{number}", labels, [], dict(CAPACITY), f"127.1.{high}.{low + 1}")


class Fleet:
    """Hollow machines of one cell, by name.

    Args:
        pin: the hash of the cell's authority.
        at_once: pods that are being started at any time.
    """

    def __init__(self, server: str, token: str, pin: str, directory: Path, at_once: int = 50) -> None:
        self._server, self._token, self._pin = server, token, pin
        self._directory = directory
        self.complete = asyncio.Event()
        """To be set when all machines have joined."""
        self._parts = Parts(self._ground, partial(HollowAgent, turns=asyncio.Semaphore(at_once)), _sources)
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._joining = asyncio.Semaphore(_TOGETHER)

    def _ground(self, config: CellConfig, client: Client, name: str, clock: Clock, rng: random.Random) -> Ground:
        return Ground(HollowRuntime(config), HollowNetwork(client, name, self.complete))

    async def join(self, number: int) -> None:
        """Return when machine `number` is registered and takes pods.

        Raises:
            CorralError, StatusError, OSError: it could not join.
        """
        member = membership(self._server, number)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with self._joining:
            life = asyncio.create_task(self._live(member, ready), name=member.name)
            self._lives[member.name] = life
            await asyncio.wait({life, ready}, return_when=asyncio.FIRST_COMPLETED)
            if life.done():
                await life

    async def _live(self, member: Membership, ready: "asyncio.Future[None]") -> None:
        config = CellConfig(self._directory / member.name, node_name=member.name)
        await _patiently(lambda: enrol(config.data_dir, member, self._token, self._pin, SystemClock()))
        async with AsyncExitStack() as stack:
            running = partial(running_machine, config, member, lambda *step: None, self._parts)
            machine = await _patiently(lambda: stack.enter_async_context(running()))
            ready.set_result(None)
            raise await machine.failed()

    async def die(self, name: str) -> None:
        """End a machine without a goodbye.

        Raises:
            KeyError: there is none of that name.
        """
        life = self._lives.pop(name)
        life.cancel()
        await asyncio.wait({life})

    async def end(self) -> None:
        """End all machines."""
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def _patiently(work: Callable[[], Awaitable[_T]]) -> _T:
    """The result of `work`, in a moment when a server that has many at its door answers."""
    for pause in (1.0, 3.0, 10.0, 30.0):
        try:
            return await work()
        except (CorralError, OSError) as error:
            logger.warning("%s, will retry", error)
            await asyncio.sleep(pause)
    return await work()


async def _settle() -> None:
    """Keep the collector from what stays, which grows by all that each machine holds."""
    while True:
        memory.settle()
        await asyncio.sleep(_SETTLE_SECONDS)


async def _run(fleet: Fleet, first: int, count: int) -> None:
    began = time.monotonic()
    settling = asyncio.create_task(_settle())
    async with asyncio.TaskGroup() as joins:
        for number in range(first, first + count):
            joins.create_task(fleet.join(number))
    fleet.complete.set()
    print(f"{count} machines ready in {time.monotonic() - began:.1f} s", flush=True)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            await fleet.die(line.strip())
            print(f"{line.strip()} is dead", flush=True)
    finally:
        settling.cancel()
        await fleet.end()


@click.command(help=__doc__)
@click.argument("server")
@click.argument("token")
@click.argument("pin", metavar="HASH")
@click.option("--machines", default=100, show_default=True, metavar="N")
@click.option("--first", default=0, show_default=True, metavar="N", help="The number of the first one.")
@click.option("--at-once", default=50, show_default=True, metavar="N", help="Pods that are being started at any time.")
@click.option("--directory", default="/dev/shm", type=click.Path(path_type=Path), help="For what agents write.")
def main(server: str, token: str, pin: str, machines: int, first: int, at_once: int, directory: Path) -> None:
    logging.basicConfig(level="WARNING", format="%(asctime)s %(name)s: %(message)s")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with TemporaryDirectory(prefix="corral-hollow-", dir=directory) as place:
        run(_run(Fleet(server, token, pin, Path(place), at_once), first, machines))


if __name__ == "__main__":
    main()

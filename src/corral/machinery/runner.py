"""Runs controllers.

One runner a process: local copies are shared by all controllers, each controller has its own queue, workers, events and
guarded client. A controller's workers start when the copies it reads are filled.

A look at thousands of objects, asked for by each change of one of them, would leave the event loop to nobody else: a
key whose look took long rests before the next one, which then sees many changes at once.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points

from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.client.informer import Event
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Resource
from corral.machinery.api import Background, Controller, Done, Permanent, Requeue, Result, Selective, Temporary, Tools
from corral.machinery.caches import Caches
from corral.machinery.events import EventRecorder
from corral.machinery.guard import GuardedClient
from corral.machinery.metered import Metered
from corral.machinery.queue import KeyQueue

logger = logging.getLogger(__name__)

_WORKERS = 8
"""Keys that one controller works on at once."""
_LOUD_AFTER = 5
"""Failures in a row of one key before they are logged as warnings: races heal within the first few."""
_LONG_SECONDS = 0.005
"""A look that keeps everything else waiting for so long is followed by a rest."""
_REST = 9.0
"""How much longer the rest is than the look: a key takes a tenth of the time at most."""
_MOST_REST_SECONDS = 0.25
ENTRY_POINTS = "corral.controllers"


@dataclass(slots=True)
class Counters:
    """What one controller has done since it started."""

    reconciles: int = 0
    retries: int = 0
    failures: int = 0
    """Exceptions and `Temporary` or `Permanent` results, conflicts included."""
    seconds: float = 0.0
    """Time spent in `reconcile`."""


@dataclass(slots=True)
class _Running:
    controller: Controller
    client: GuardedClient
    events: EventRecorder
    queue: KeyQueue[Key]
    counters: Counters = field(default_factory=Counters)


class Runner:
    """Runs `controllers` until cancelled.

    Args:
        client: who fills the shared copies; it must be able to list and watch all that the controllers read.
        client_for: the client of a controller's own user, by the controller's name; default: `client`.
        active: until it is set, caches and queues are kept up to date and nothing is done; default: it is set.
        caches: the shared copies, if others read them, too; this runner keeps them fresh all the same.
    """

    def __init__(
        self,
        client: Client,
        controllers: Sequence[Controller | Background],
        clock: Clock,
        *,
        rng: random.Random | None = None,
        client_for: Callable[[str], Client] | None = None,
        active: asyncio.Event | None = None,
        caches: Caches | None = None,
    ) -> None:
        self._clock = clock
        self._rng = rng or random.Random()
        self._client_for = client_for or (lambda name: client)
        self._controllers = controllers
        self.caches = Caches(client, clock, self._rng) if caches is None else caches
        self.counters: dict[str, Counters] = {}
        """By controller name."""
        self._active = active or _always()
        self._fed: defaultdict[Resource, list[_Running]] = defaultdict(list)
        self.synced = asyncio.Event()
        """Set when all controllers work."""

    async def run(self) -> None:
        """Run until cancelled; a fault in the machinery itself ends all controllers and is raised."""
        async with asyncio.TaskGroup() as group:
            reading: set[Resource] = set()
            for controller in self._controllers:
                if isinstance(controller, Controller):
                    reading.update(controller.reads)
                    self._start(controller, group)
                else:
                    self._start_background(controller, group)
            for resource, fed in self._fed.items():
                self._feed(resource, fed)
            group.create_task(self.caches.run(), name="caches")
            await self.caches.synced(reading)
            self.synced.set()

    def _tools(self, name: str, writes: Iterable[str]) -> tuple[Tools, GuardedClient]:
        plain = self._client_for(name)
        client = GuardedClient(plain, name, writes)
        events = EventRecorder(plain, name, self._clock)
        return Tools(client, self.caches, events, self._clock, self._rng), client

    def _start_background(self, controller: Background, group: asyncio.TaskGroup) -> None:
        tools, _ = self._tools(controller.name, controller.writes)
        group.create_task(tools.events.run(), name=f"{controller.name} events")
        group.create_task(self._run_background(controller, tools), name=controller.name)

    async def _run_background(self, controller: Background, tools: Tools) -> None:
        await self._active.wait()
        await controller.run(tools)

    def _start(self, controller: Controller, group: asyncio.TaskGroup) -> None:
        tools, client = self._tools(controller.name, controller.writes)
        running = _Running(controller, client, tools.events, KeyQueue(self._clock))
        self.counters[controller.name] = running.counters
        for resource in controller.reads:
            self.caches.get(resource)
        controller.start(tools)
        for resource in controller.reads:
            self._fed[resource].append(running)
        group.create_task(tools.events.run(), name=f"{controller.name} events")
        group.create_task(running.queue.run(), name=f"{controller.name} timer")
        for number in range(_WORKERS):
            group.create_task(self._work(running), name=f"{controller.name} worker {number}")

    def _feed(self, resource: Resource, fed: Sequence[_Running]) -> None:
        """Tell the controllers in `fed` of each change; one handler for all, because each event costs each of them."""
        takers = [
            (one.controller, one.controller.matters if isinstance(one.controller, Selective) else None, one.queue.add)
            for one in fed
        ]

        def feed(event: Event) -> None:
            old, new = event.old, event.new
            for controller, matters, add in takers:
                try:
                    if old is not None:
                        if matters is not None and new is not None and not matters(resource, old, new):
                            continue
                        for key in controller.keys_for(resource, old):
                            add(key)
                    if new is not None:
                        for key in controller.keys_for(resource, new):
                            add(key)
                except Exception:
                    # One controller's fault must not keep the event from the others.
                    logger.exception("%s cannot take in %s %s", controller.name, event.type, event.key)

        self.caches.get(resource).on_event(feed)

    async def _work(self, running: _Running) -> None:
        await self.caches.synced(running.controller.reads)
        await self._active.wait()
        while True:
            key = await running.queue.get()
            started = self._clock.monotonic()
            look = Metered(self._reconcile(running, key), self._clock.monotonic)
            try:
                result = await look
                await self.caches.catch_up(dict(running.client.written))
                running.counters.seconds += self._clock.monotonic() - started
                if look.spent >= _LONG_SECONDS:
                    # The key counts as worked on until then: who asks for it meanwhile asks for one more look.
                    await self._clock.sleep(min(look.spent * _REST, _MOST_REST_SECONDS))
            finally:
                running.counters.reconciles += 1
                running.queue.done(key)
            self._settle(running, key, result)

    async def _reconcile(self, running: _Running, key: Key) -> Result:
        """The result; a failure as a value."""
        try:
            return await running.controller.reconcile(key)
        except StatusError as error:
            return Temporary(error.message)
        except (OSError, CorralError) as error:
            return Temporary(str(error))
        except Exception as error:
            logger.exception("%s failed on %s", running.controller.name, key)
            return Temporary(f"{type(error).__name__}: {error}")

    def _settle(self, running: _Running, key: Key, result: Result) -> None:
        name, queue = running.controller.name, running.queue
        match result:
            case Done():
                queue.forget(key)
            case Requeue(after):
                queue.forget(key)
                queue.add_after(key, after)
            case Temporary(reason):
                running.counters.failures += 1
                running.counters.retries += 1
                delay = queue.retry(key)
                level = logging.WARNING if queue.failures(key) >= _LOUD_AFTER else logging.DEBUG
                logger.log(level, "%s cannot settle %s, will retry in %.3g s: %s", name, key, delay, reason)
            case Permanent(reason):
                queue.forget(key)
                running.counters.failures += 1
                logger.warning("%s gives up on %s until it changes: %s", name, key, reason)


def _always() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


def installed_controllers() -> list[Controller | Background]:
    """Users' own controllers: what installed packages offer under the entry point group `corral.controllers`.

    Each entry point names a callable without arguments that makes a controller.

    Raises:
        CorralError: one of them cannot be loaded or made.
    """
    made: list[Controller | Background] = []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            made.append(entry.load()())
        except Exception as error:
            package = entry.dist.name if entry.dist is not None else "an unknown package"
            raise CorralError(
                f"cannot load the controller {entry.name!r} of {package}: {type(error).__name__}: {error}",
                f"fix or uninstall {package}",
            ) from error
    return made

"""One informer a resource, shared by every controller of a process."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping

from corral.base.clock import Clock
from corral.client.client import Client
from corral.client.informer import Informer
from corral.kinds.types import Obj, Resource


class Caches:
    """Makes informers on demand and keeps them running.

    `get` may be called before or while `run` runs; informers asked for later start at once.
    """

    def __init__(
        self, client: Client, clock: Clock, rng: random.Random, *, transform: Callable[[Obj], Obj] | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._rng = rng
        self._transform = transform
        self._informers: dict[Resource, Informer] = {}
        self._tasks: dict[Resource, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def get(self, resource: Resource) -> Informer:
        """The shared copy of `resource`, across all namespaces."""
        informer = self._informers.get(resource)
        if informer is None:
            informer = Informer(self._client, resource, clock=self._clock, rng=self._rng, transform=self._transform)
            self._informers[resource] = informer
            self._launch(resource, informer)
        return informer

    def resources(self) -> frozenset[Resource]:
        """What is kept."""
        return frozenset(self._informers)

    def drop(self, resource: Resource) -> None:
        """Stop keeping `resource`, because its kind is gone."""
        informer = self._informers.pop(resource, None)
        if informer is not None:
            # Whoever waits for it to fill would wait for ever.
            informer.synced.set()
        task = self._tasks.pop(resource, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Keep all informers running until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for resource, informer in self._informers.items():
                    self._launch(resource, informer)
                await asyncio.Event().wait()
            finally:
                self._group = None

    def _launch(self, resource: Resource, informer: Informer) -> None:
        if self._group is not None:
            self._tasks[resource] = self._group.create_task(informer.run(), name=f"informer {resource.plural}")

    async def synced(self, resources: Iterable[Resource]) -> None:
        """Return when the copies of `resources` are filled."""
        for resource in resources:
            await self.get(resource).synced.wait()

    async def catch_up(self, written: Mapping[Resource, int]) -> None:
        """Return when the copies that are kept show the revisions in `written`."""
        for resource, revision in written.items():
            informer = self._informers.get(resource)
            if informer is not None and informer.revision < revision:
                await informer.reached(revision)

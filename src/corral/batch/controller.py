"""The shell around admission: one look at everything, then the writes.

Admission weighs all queues against each other, so there is one key. Events that come while a look is being performed
make one more look, and the runner shows a look its own writes before it starts the next: no quota is given twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from datetime import datetime

from corral.batch import pending, report, workloads
from corral.batch.admission import admit, tree_of
from corral.batch.eta import OBSERVED, Finish
from corral.batch.model import Decisions, Wait
from corral.batch.pending import finish_of
from corral.batch.views import Objects, Read, World, is_evicted
from corral.client.informer import Informer
from corral.kinds import conditions
from corral.kinds.resources import (
    CLUSTER_QUEUES,
    COHORTS,
    LOCAL_QUEUES,
    NAMESPACES,
    RESOURCE_FLAVORS,
    WORKLOADS,
)
from corral.kinds.status import StatusError, unavailable
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.status import write_status

_ALL = Key("", "queues")
_REASONED = 8
"""How many of those that wait in a queue are told anew why, each time: amounts change with every workload that ends,
and a write for each of thousands would be noise. The others keep the first reason that they were given."""

_QUICK = 0.01
_PAUSES = 3.0
_LONGEST_PAUSE = 2.0
"""Seconds: a look that took longer than `_QUICK` is followed by a pause of so many times its length, so that queues of
thousands do not take the server's time from everybody else. What happens meanwhile is one look's work."""


class QueueController:
    """Gives quota to Workloads and takes it away."""

    name = "queue-controller"
    reads = (CLUSTER_QUEUES, LOCAL_QUEUES, COHORTS, RESOURCE_FLAVORS, WORKLOADS, NAMESPACES)
    writes = ("workloads.kueue.x-k8s.io/status", "clusterqueues/status", "localqueues/status")

    _tools: Tools

    def __init__(self) -> None:
        self._known: dict[str, Read] = {}
        self._finishes: dict[str, deque[Finish]] = {}
        """The last of each queue: they outlive the Workloads themselves."""
        self._seen: set[str] = set()
        """Uids of finished Workloads that are in there."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Everything concerns everything."""
        return [_ALL]

    async def reconcile(self, key: Key) -> Result:
        """One look at all queues."""
        clock = self._tools.clock
        now, began = clock.now(), clock.monotonic()
        world = self.world()
        self._observe(world)
        decisions = admit(world.state, now)
        by_key = {key_of(workload): workload for workload in world.workloads}
        writes = [*self._writes(world, decisions, by_key, now), *self._statuses(world, now)]
        took = clock.monotonic() - began
        lost = await self._perform(writes)
        if took > _QUICK:
            await clock.sleep(min(_LONGEST_PAUSE, took * _PAUSES))
        if lost:
            return Temporary("somebody else wrote meanwhile")
        times = [one.not_before for one in world.state.waiting if one.not_before is not None and one.not_before > now]
        return Requeue((min(times) - now).total_seconds()) if times else Done()

    def _observe(self, world: World) -> None:
        """Remember what has ended since the last look."""
        by_uid = {workload["metadata"]["uid"]: workload for workload in world.finished}
        new = [finish_of(workload) for uid, workload in by_uid.items() if uid not in self._seen]
        self._seen = set(by_uid)
        for finish in sorted((one for one in new if one is not None), key=lambda one: one.at):
            self._finishes.setdefault(finish.queue, deque(maxlen=OBSERVED)).append(finish)

    def look(self, key: Key) -> Obj | None:
        """What is to be said of the LocalQueue `key`, or of the ClusterQueue if it has no namespace; None if there is
        no such queue.

        Raises:
            StatusError: 503, the copies of the objects are not there yet.
        """
        if not hasattr(self, "_tools"):
            raise unavailable("the controllers are starting")
        world, now = self.world(), self._tools.clock.now()
        self._observe(world)
        finishes = [finish for seen in self._finishes.values() for finish in seen]
        if key.namespace:
            return pending.local_queue(world, key, finishes, now)
        return pending.cluster_queue(world, key.name, finishes, now)

    def world(self) -> World:
        """All objects as they are now."""
        copies = (RESOURCE_FLAVORS, COHORTS, CLUSTER_QUEUES, LOCAL_QUEUES, NAMESPACES, WORKLOADS)
        return World(Objects(*(self._copy(resource).items() for resource in copies)), self._known)

    def _copy(self, resource: Resource) -> Informer:
        return self._tools.caches.get(resource)

    async def _perform(self, writes: Iterable[Awaitable[object]]) -> int:
        """Do all at once, so that they share commits. Returns how many met an object that had changed."""
        results = await asyncio.gather(*writes, return_exceptions=True)
        lost = 0
        for result in results:
            if isinstance(result, StatusError) and result.code in (404, 409):
                lost += result.code == 409
            elif isinstance(result, BaseException):
                raise result
        return lost

    def _writes(
        self, world: World, decisions: Decisions, by_key: dict[Key, Obj], now: datetime
    ) -> list[Awaitable[object]]:
        writes: list[Awaitable[object]] = []
        for workload in world.reserving:
            why = None if is_evicted(workload) else world.must_stop(workload)
            if why is not None:
                writes.append(self._write(workload, workloads.evicted(workload, why.reason, why.message, now)))
                self._say(workload, "EvictedDueTo" + why.reason, why.message)
        for admission in decisions.admit:
            workload = by_key[admission.key]
            writes.append(self._write(workload, workloads.reserved(workload, admission, now)))
            self._say(workload, "QuotaReserved", f"Quota reserved in ClusterQueue {admission.queue}")
            self._say(workload, "Admitted", f"Admitted by ClusterQueue {admission.queue}")
        for preemption in decisions.preempt:
            workload, by = by_key[preemption.key], by_key[preemption.by]
            writes.append(self._write(workload, workloads.preempted(workload, by, preemption.reason, now)))
            self._say(workload, "Preempted", workloads.preemption_words(by, preemption.reason))
        return writes + self._reasons(world, decisions.wait, by_key, now)

    def _reasons(
        self, world: World, waits: Iterable[Wait], by_key: dict[Key, Obj], now: datetime
    ) -> list[Awaitable[object]]:
        """Tell those that wait why."""
        writes: list[Awaitable[object]] = []
        told: dict[str, int] = {}
        for wait in waits:
            workload = by_key[wait.key]
            queue = world.where(workload)[0]
            told[queue] = told.get(queue, 0) + 1
            if told[queue] <= _REASONED or conditions.get(workload, "QuotaReserved") is None:
                writes += self._reason(workload, "Pending", wait.message, now)
        for waiting in world.state.waiting:
            if waiting.closed:
                writes += self._reason(by_key[waiting.key], "Inadmissible", waiting.closed, now)
        return writes

    def _reason(self, workload: Obj, reason: str, message: str, now: datetime) -> list[Awaitable[object]]:
        said = conditions.get(workload, "QuotaReserved") or {}
        if (said.get("status"), said.get("reason"), said.get("message")) == ("False", reason, message):
            return []
        return [self._write(workload, workloads.pending(workload, reason, message, now))]

    def _write(self, workload: Obj, status: Obj) -> Awaitable[object]:
        return write_status(self._tools.client, WORKLOADS, workload, status)

    def _say(self, workload: Obj, reason: str, message: str) -> None:
        self._tools.events.record(workload, "Normal", reason, message)

    def _statuses(self, world: World, now: datetime) -> list[Awaitable[object]]:
        """What queues say of themselves, as this look found them: what it writes makes one more look."""
        tree = tree_of(world.state)
        crowds = report.Crowds(world)
        writes: list[Awaitable[object]] = []
        for obj in world.cluster_queues.values():
            status = report.cluster_queue_status(obj, world, tree, crowds, now)
            writes.append(write_status(self._tools.client, CLUSTER_QUEUES, obj, status))
        for obj in world.local_queues.values():
            status = report.local_queue_status(obj, world, crowds, now)
            writes.append(write_status(self._tools.client, LOCAL_QUEUES, obj, status))
        return writes

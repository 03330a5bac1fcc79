"""Feeds the graph from every kind and performs what `decide` says.

Kinds are discovered at the start and whenever a CustomResourceDefinition changes. Kinds that other controllers keep in
full are shared with them; of all others only the metadata is kept.
"""

import asyncio
import logging
from collections import OrderedDict

from corral.client.discovery import discover
from corral.client.informer import Event
from corral.controllers.garbagecollector.decide import (
    Ask,
    Decision,
    Delete,
    Disown,
    Keep,
    LookAt,
    Orphan,
    Release,
    decide,
)
from corral.controllers.garbagecollector.graph import ORPHAN, Graph, Node, Owner, node_of
from corral.kinds.resources import CUSTOM_RESOURCE_DEFINITIONS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.machinery.api import Tools
from corral.machinery.caches import Caches
from corral.machinery.guard import EVERYTHING
from corral.machinery.queue import KeyQueue

logger = logging.getLogger(__name__)

_WORKERS = 8
_ABSENT_REMEMBERED = 500
"""As many absent owners as Kubernetes' collector remembers."""
_REDISCOVER_SECONDS = 5.0
_IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""Events never own and are never owned; they expire by themselves."""

_Coordinates = tuple[str, str, str, str, str]


class GarbageCollector:
    """Deletes what no owner holds any more."""

    name = "generic-garbage-collector"
    writes = (EVERYTHING,)

    _tools: Tools
    _queue: KeyQueue[str]
    _own: Caches

    def __init__(self) -> None:
        self._graph = Graph()
        self._kinds: dict[tuple[str, str], Resource] = {}
        self._fed: set[Resource] = set()
        self._absent: OrderedDict[_Coordinates, None] = OrderedDict()
        self._rediscover = asyncio.Event()
        self._ready = asyncio.Event()

    async def run(self, tools: Tools) -> None:
        """Collect until cancelled."""
        self._tools = tools
        self._queue = KeyQueue(tools.clock)
        self._own = Caches(tools.client, tools.clock, tools.rng, transform=_metadata_only)
        tools.caches.get(CUSTOM_RESOURCE_DEFINITIONS).on_event(lambda event: self._rediscover.set())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own.run(), name="garbage collector caches")
            group.create_task(self._queue.run(), name="garbage collector timer")
            group.create_task(self._discover(), name="garbage collector discovery")
            for number in range(_WORKERS):
                group.create_task(self._work(), name=f"garbage collector worker {number}")

    async def _discover(self) -> None:
        while True:
            self._rediscover.clear()
            try:
                served = await discover(self._tools.client)
            except (StatusError, OSError) as error:
                logger.warning("cannot discover the kinds to collect, will retry: %s", error)
                await self._tools.clock.sleep(_REDISCOVER_SECONDS)
                continue
            self._kinds = {(found.resource.group, found.resource.kind): found.resource for found in served}
            wanted = {
                found.resource
                for found in served
                if {"list", "watch", "delete"} <= found.verbs
                and (found.resource.group, found.resource.plural) not in _IGNORED
            }
            for resource in self._fed - wanted:
                self._own.drop(resource)
                for uid in [uid for uid, node in self._graph.nodes.items() if node.resource == resource]:
                    self._look_at(self._graph.remove(uid))
            for resource in wanted - self._fed:
                self._feed(resource)
            self._fed = wanted
            if not self._ready.is_set():
                # Whoever is orphaned or waited for must be known before the first decision.
                for resource in wanted:
                    await self._caches(resource).synced((resource,))
                self._ready.set()
            await self._rediscover.wait()

    def _caches(self, resource: Resource) -> Caches:
        shared = self._tools.caches
        return shared if resource in shared.resources() else self._own

    def _feed(self, resource: Resource) -> None:
        def feed(event: Event) -> None:
            if event.new is None:
                self._look_at(self._graph.remove(event.obj["metadata"]["uid"]))
            else:
                self._look_at(self._graph.put(node_of(resource, event.new)))

        self._caches(resource).get(resource).on_event(feed)

    def _look_at(self, uids: set[str] | tuple[str, ...]) -> None:
        for uid in uids:
            self._queue.add(uid)

    async def _work(self) -> None:
        await self._ready.wait()
        while True:
            uid = await self._queue.get()
            try:
                settled = await self._attend(uid)
            except (StatusError, OSError) as error:
                settled = False
                level = logging.WARNING if self._queue.failures(uid) >= 5 else logging.DEBUG
                logger.log(level, "cannot collect %s, will retry: %s", self._graph.nodes.get(uid, uid), error)
            except Exception:
                # One odd object must not end the collection of all others.
                settled = False
                logger.exception("cannot collect %s, will retry", self._graph.nodes.get(uid, uid))
            finally:
                self._queue.done(uid)
            if settled:
                self._queue.forget(uid)
            else:
                self._queue.retry(uid)

    async def _attend(self, uid: str) -> bool:
        """One decision; False if the object must be looked at again."""
        node = self._graph.nodes.get(uid)
        if node is None:
            return True
        known: dict[str, bool] = {}
        decision = decide(self._graph, node, known)
        while isinstance(decision, Ask):
            for owner in decision.owners:
                known[owner.uid] = await self._exists(node, owner)
            node = self._graph.nodes.get(uid)
            if node is None:
                return True
            decision = decide(self._graph, node, known)
        await self._perform(node, decision)
        # An owner that exists but is not in the graph might vanish before its kind's first list: look again.
        return not any(known.values())

    async def _exists(self, node: Node, owner: Owner) -> bool:
        resource = self._kinds.get((owner.group, owner.kind))
        if resource is None:
            self._rediscover.set()
            raise StatusError(404, "NotFound", f"the server has no kind {owner.kind} in {owner.api_version}")
        if resource.namespaced and not node.key.namespace:
            # A cluster-scoped object cannot follow a namespaced owner; Kubernetes leaves it alone, too.
            return True
        namespace = node.key.namespace if resource.namespaced else ""
        coordinates = (owner.uid, owner.api_version, owner.kind, namespace, owner.name)
        if coordinates in self._absent:
            self._absent.move_to_end(coordinates)
            return False
        try:
            found = await self._tools.client.get(resource, owner.name, namespace)
        except StatusError as error:
            if error.code != 404:
                raise
        else:
            if found["metadata"]["uid"] == owner.uid:
                return True
        self._absent[coordinates] = None
        if len(self._absent) > _ABSENT_REMEMBERED:
            self._absent.popitem(last=False)
        return False

    async def _perform(self, node: Node, decision: Decision) -> None:
        match decision:
            case Keep() | Ask():
                return
            case LookAt(dependents):
                self._look_at(dependents)
            case Disown(owners):
                await self._patch_owners(node, tuple(owner for owner in node.owners if owner.uid not in owners))
            case Delete(policy, unblock):
                if unblock:
                    await self._patch_owners(node, node.owners, unblock)
                    return
                await self._delete(node, policy)
            case Release(finalizer):
                await self._release(node, finalizer)
            case Orphan(dependents):
                await asyncio.gather(*(self._disown(dependent, node) for dependent in dependents))
                await self._release(node, ORPHAN)

    async def _delete(self, node: Node, policy: str) -> None:
        assert policy in ("Background", "Foreground", "Orphan")
        try:
            await self._tools.client.delete(
                node.resource,
                node.key.name,
                node.key.namespace,
                propagation=policy,  # type: ignore[arg-type]
                uid=node.uid,
                resource_version=node.revision,
            )
        except StatusError as error:
            if error.code != 404:
                raise

    async def _disown(self, dependent: Node, owner: Node) -> None:
        await self._patch_owners(dependent, tuple(left for left in dependent.owners if left.uid != owner.uid))

    async def _release(self, node: Node, finalizer: str) -> None:
        await self._patch(node, {"finalizers": [name for name in node.finalizers if name != finalizer] or None})

    async def _patch_owners(self, node: Node, owners: tuple[Owner, ...], unblock: frozenset[str] = frozenset()) -> None:
        """Keep only `owners` among the object's owner references; those in `unblock` wait for it no longer."""
        live = await self._tools.client.find(node.resource, node.key.name, node.key.namespace)
        if live is None:
            return
        kept = {owner.uid for owner in owners}
        references = [
            {**reference, "blockOwnerDeletion": False} if reference["uid"] in unblock else reference
            for reference in live["metadata"].get("ownerReferences") or ()
            if reference["uid"] in kept
        ]
        await self._patch(node, {"ownerReferences": references or None})

    async def _patch(self, node: Node, metadata: Obj) -> None:
        """Patch the object as the graph knows it; if it changed meanwhile, 409 brings it back to the queue."""
        identity = {"uid": node.uid, "resourceVersion": node.revision}
        patch = {"metadata": {**identity, **metadata}}
        try:
            await self._tools.client.patch(node.resource, node.key.name, patch, node.key.namespace)
        except StatusError as error:
            if error.code != 404:
                raise


_KEPT = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers", "deletionTimestamp")


def _metadata_only(obj: Obj) -> Obj:
    metadata = obj["metadata"]
    return {"metadata": {field: metadata[field] for field in _KEPT if metadata.get(field)}}

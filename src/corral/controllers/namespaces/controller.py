"""Empties namespaces that are being deleted, then lets them go.

What lingers is looked at again after a while, and as soon as a pod is gone, because it is mostly pods that take time.
"""

import asyncio
from collections.abc import Iterable, Sequence

from corral.client.discovery import Served, discover
from corral.client.informer import Informer
from corral.controllers.namespaces.plan import finalized, must_empty, status
from corral.kinds.resources import NAMESPACES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.guard import EVERYTHING
from corral.machinery.status import write_status

_LOOK_AGAIN = (0.05, 5.0)
"""Bounds of the seconds between two looks at a namespace whose pods are still ending."""
_AT_ONCE = 8


class NamespaceController:
    """Deletes all content of a namespace before the namespace itself."""

    name = "namespace-controller"
    reads = (NAMESPACES, PODS)
    writes = (EVERYTHING,)

    _tools: Tools
    _namespaces: Informer
    _pods: Informer

    def __init__(self) -> None:
        self._waits: dict[Key, float] = {}

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._namespaces = tools.caches.get(NAMESPACES)
        self._pods = tools.caches.get(PODS)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Namespaces that are being deleted; of a pod that is gone, the namespace."""
        if resource == PODS:
            namespace = self._namespaces.get(Key("", obj["metadata"]["namespace"]))
            gone = namespace is not None and self._pods.get(key_of(obj)) is None
            return [key_of(namespace)] if namespace is not None and gone and must_empty(namespace) else []
        return [key_of(obj)] if must_empty(obj) else []

    async def reconcile(self, key: Key) -> Result:
        """Delete what is left; when nothing is, let the namespace go."""
        namespace = self._namespaces.get(key)
        if namespace is None or not must_empty(namespace):
            self._waits.pop(key, None)
            return Done()
        undiscovered = ""
        resources: list[Served] = []
        try:
            resources = [
                served
                for served in await discover(self._tools.client)
                if served.resource.namespaced and {"list", "delete"} <= served.verbs
            ]
        except StatusError as error:
            undiscovered = f"Discovery failed for some groups: {error.message}"
        remaining, failures = await self._empty(key.name, resources)
        made = status(namespace, remaining, failures, undiscovered, self._tools.clock.now())
        if any(remaining.values()) or failures or undiscovered:
            await self._write(namespace, made)
            wait = self._waits.get(key, _LOOK_AGAIN[0])
            self._waits[key] = min(_LOOK_AGAIN[1], wait * 1.5)
            return Requeue(wait)
        self._waits.pop(key, None)
        await self._let_go(namespace)
        return Done()

    async def _empty(self, name: str, resources: Sequence[Served]) -> tuple[dict[Resource, Sequence[Obj]], list[str]]:
        """Delete everything; what is still there afterwards, and what could not be done."""
        limit = asyncio.Semaphore(_AT_ONCE)
        failures: list[str] = []

        async def one(served: Served) -> Sequence[Obj]:
            async with limit:
                try:
                    return await self._delete_all(name, served)
                except StatusError as error:
                    failures.append(f"{served.resource.plural}: {error.message}")
                    return ()

        left = await asyncio.gather(*(one(served) for served in resources))
        return {served.resource: objs for served, objs in zip(resources, left, strict=True)}, failures

    async def _delete_all(self, name: str, served: Served) -> Sequence[Obj]:
        client, resource = self._tools.client, served.resource
        items = await self._items(name, resource)
        fresh = [obj for obj in items if not obj["metadata"].get("deletionTimestamp")]
        if fresh and "deletecollection" in served.verbs:
            await client.delete_collection(resource, name, propagation="Background")
        elif fresh:
            for obj in fresh:
                await self._delete(name, resource, obj)
        return await self._items(name, resource) if items else ()

    async def _delete(self, name: str, resource: Resource, obj: Obj) -> None:
        try:
            await self._tools.client.delete(resource, obj["metadata"]["name"], name, propagation="Background")
        except StatusError as error:
            if error.code != 404:
                raise

    async def _items(self, name: str, resource: Resource) -> Sequence[Obj]:
        try:
            items: list[Obj] = (await self._tools.client.list(resource, name)).get("items") or []
        except StatusError as error:
            if error.code in (404, 405):
                return ()
            raise
        return items

    async def _write(self, namespace: Obj, made: Obj) -> None:
        try:
            await write_status(self._tools.client, NAMESPACES, namespace, made)
        except StatusError as error:
            if error.code != 404:
                raise

    async def _let_go(self, namespace: Obj) -> None:
        try:
            await self._tools.client.update(NAMESPACES, finalized(namespace), "finalize")
        except StatusError as error:
            if error.code != 404:
                raise

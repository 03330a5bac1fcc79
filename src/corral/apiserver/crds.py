"""CustomResourceDefinitions become kinds: the registry follows the store.

A definition is installed when it is seen, unless another kind of its group has one of its names, and its status says
so. It carries a finalizer, so that its objects go before it does.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

import orjson

from corral.apiserver.auth.api import User
from corral.apiserver.context import Call, Context
from corral.apiserver.core import Core, prefix_of
from corral.apiserver.negotiation import PLAIN
from corral.apiserver.options import DeleteOptions
from corral.apiserver.rendering import encode
from corral.apiserver.verbs.delete import remove
from corral.kinds.conditions import set_condition
from corral.kinds.crd import ESTABLISHED, conditions, names_accepted, not_served
from corral.kinds.kind import Kind
from corral.kinds.resources import CUSTOM_RESOURCE_DEFINITIONS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.store.protocol import Change, Compacted, Conflict, Entry

log = logging.getLogger(__name__)

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_SERVER = User("system:apiserver", ("system:masters",))


class CustomKinds:
    """Keeps the registry in step with the definitions in the store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()
        """Keys of definitions whose names others have: they are looked at again when a definition changes or goes."""

    async def start(self) -> None:
        """Install what there is, then follow."""
        revision = await self._install_all()
        self._task = asyncio.create_task(self._follow(revision), name="custom kinds")

    async def stop(self) -> None:
        """End the following."""
        for task in (self._task, *self._endings.values()):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _install_all(self) -> int:
        entries, revision = self._core.store.current(prefix_of(CUSTOM_RESOURCE_DEFINITIONS))
        for entry in entries:
            await self._install(entry)
        return revision

    async def _follow(self, revision: int) -> None:
        while True:
            try:
                watch = self._core.store.watch(prefix_of(CUSTOM_RESOURCE_DEFINITIONS), after=revision)
                async for changes in watch:
                    for change in changes:
                        await self._take(change)
                return
            except Compacted:
                revision = await self._install_all()

    async def _take(self, change: Change) -> None:
        if change.type == "delete":
            self._core.registry.remove_crd(orjson.loads(change.entry.value)["metadata"]["name"])
            self._refused.discard(change.entry.key)
        else:
            await self._install(change.entry)
        for key in self._refused - {change.entry.key}:
            entry = self._core.store.get(key)
            if entry is not None:
                await self._install(entry)

    async def _install(self, entry: Entry) -> None:
        crd: Obj = orjson.loads(entry.value)
        name, registry = crd["metadata"]["name"], self._core.registry
        found = conditions(crd, registry)
        if names_accepted(found):
            self._refused.discard(entry.key)
            try:
                registry.install_crd(crd)
            except (StatusError, ValueError, LookupError, TypeError) as error:
                # One bad definition must not keep the others from being served.
                log.warning("cannot serve CustomResourceDefinition %s: %s", name, error)
                found = not_served(found, str(error))
        else:
            self._refused.add(entry.key)
            if self._kinds_of(crd):
                # It goes on being served under the names that it had.
                found = [condition for condition in found if condition["type"] != ESTABLISHED]
        if not crd["metadata"].get("deletionTimestamp"):
            await self._report(entry.key, found)
        elif name not in self._endings:
            task = asyncio.create_task(self._end(entry.key, crd), name=f"removal of {name}")
            task.add_done_callback(lambda _: self._endings.pop(name, None))
            self._endings[name] = task

    async def _report(self, key: str, found: Sequence[Obj]) -> None:
        """Write the conditions NamesAccepted and Established, the accepted names and the finalizer."""
        while True:
            entry = self._core.store.get(key)
            if entry is None:
                return
            crd = reported(orjson.loads(entry.value), found, self._core.now())
            value = encode(crd)
            if value == entry.value or crd["metadata"].get("deletionTimestamp"):
                return
            if not isinstance(await self._core.store.update(key, value, entry.revision), Conflict):
                return

    async def _end(self, key: str, crd: Obj) -> None:
        """Remove the definition's objects, wait until the last is gone, then let the definition go."""
        for kind in self._kinds_of(crd):
            await self._remove_all(kind)
        while True:
            entry = self._core.store.get(key)
            if entry is None:
                return
            current = orjson.loads(entry.value)
            finalizers = [name for name in current["metadata"].get("finalizers") or () if name != FINALIZER]
            if finalizers:
                current["metadata"]["finalizers"] = finalizers
                result = await self._core.store.update(key, encode(current), entry.revision)
            else:
                result = await self._core.store.delete(key, entry.revision)
            if not isinstance(result, Conflict):
                return

    def _kinds_of(self, crd: Obj) -> list[Kind]:
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        found = (self._core.registry.get(group, version["name"], plural) for version in crd["spec"]["versions"])
        # All versions share their objects: one of them is enough.
        return [kind for kind in found if kind is not None][:1]

    async def _remove_all(self, kind: Kind) -> None:
        prefix = self._core.prefix(kind, "")
        entries, revision = self._core.store.current(prefix)
        for entry in entries:
            metadata = orjson.loads(entry.value)["metadata"]
            with suppress(StatusError):
                await remove(self._core, _context(kind, metadata), DeleteOptions())
        if not self._core.store.current(prefix)[0]:
            return
        async for _ in self._core.store.watch(prefix, after=revision):
            if not self._core.store.current(prefix)[0]:
                return


def _context(kind: Kind, metadata: Obj) -> Context:
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    call = Call("DELETE", kind.resource.path(namespace, name), _SERVER)
    return Context(call, "delete", kind, namespace, name, "", PLAIN)


def reported(crd: Obj, found: Sequence[Obj], now: datetime) -> Obj:
    """A definition with the status of one of which `found` holds; one whose names are accepted has the finalizer."""
    status = crd.setdefault("status", {})
    for condition in found:
        about = {field: condition[field] for field in ("reason", "message")}
        set_condition(crd, condition["type"], condition["status"], now=now, **about)
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    status["storedVersions"] = list(dict.fromkeys([*(status.get("storedVersions") or ()), *stored]))
    if not names_accepted(found):
        status.setdefault("acceptedNames", {"plural": "", "kind": ""})
        return crd
    names = {**crd["spec"]["names"]}
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    status["acceptedNames"] = names
    finalizers = crd["metadata"].get("finalizers") or []
    if FINALIZER not in finalizers:
        crd["metadata"]["finalizers"] = [*finalizers, FINALIZER]
    return crd

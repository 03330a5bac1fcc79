"""CustomResourceDefinitions become kinds: the registry follows the store.

A definition is installed when it is seen, and its status says so. It carries a finalizer, so that its objects go before
it does.
"""

import asyncio
import logging
from contextlib import suppress

import orjson

from corral.apiserver.auth.api import User
from corral.apiserver.context import Call, Context
from corral.apiserver.core import Core, prefix_of
from corral.apiserver.negotiation import PLAIN
from corral.apiserver.options import DeleteOptions
from corral.apiserver.rendering import encode
from corral.apiserver.verbs.delete import remove
from corral.kinds import conditions
from corral.kinds.kind import Kind
from corral.kinds.resources import CUSTOM_RESOURCE_DEFINITIONS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.store.protocol import Compacted, Conflict, Entry

log = logging.getLogger(__name__)

FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_SERVER = User("system:apiserver", ("system:masters",))


class CustomKinds:
    """Keeps the registry in step with the definitions in the store."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._task: asyncio.Task[None] | None = None
        self._endings: dict[str, asyncio.Task[None]] = {}

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
                        if change.type == "delete":
                            self._core.registry.remove_crd(orjson.loads(change.entry.value)["metadata"]["name"])
                        else:
                            await self._install(change.entry)
                return
            except Compacted:
                revision = await self._install_all()

    async def _install(self, entry: Entry) -> None:
        crd: Obj = orjson.loads(entry.value)
        name = crd["metadata"]["name"]
        try:
            self._core.registry.install_crd(crd)
        except (StatusError, ValueError, LookupError, TypeError) as error:
            # One bad definition must not keep the others from being served.
            log.warning("cannot serve CustomResourceDefinition %s: %s", name, error)
            await self._report(entry.key, str(error))
            return
        if crd["metadata"].get("deletionTimestamp"):
            if name not in self._endings:
                task = asyncio.create_task(self._end(entry.key, crd), name=f"removal of {name}")
                task.add_done_callback(lambda _: self._endings.pop(name, None))
                self._endings[name] = task
            return
        await self._report(entry.key, "")

    async def _report(self, key: str, problem: str) -> None:
        """Write the conditions NamesAccepted and Established, the accepted names and the finalizer."""
        while True:
            entry = self._core.store.get(key)
            if entry is None:
                return
            crd = established(orjson.loads(entry.value), self._core, problem)
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


def established(crd: Obj, core: Core, problem: str) -> Obj:
    """A definition with the status of one that is served, or that cannot be because of `problem`."""
    status = crd.setdefault("status", {})
    names = {**crd["spec"]["names"]}
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    status["acceptedNames"] = names
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    status["storedVersions"] = list(dict.fromkeys([*(status.get("storedVersions") or ()), *stored]))
    now = core.now()
    if problem:
        conditions.set_condition(crd, "Established", "False", now=now, reason="NotServed", message=problem)
    else:
        good = {"reason": "NoConflicts", "message": "no conflicts found"}
        conditions.set_condition(crd, "NamesAccepted", "True", now=now, **good)
        done = {"reason": "InitialNamesAccepted", "message": "the initial names have been accepted"}
        conditions.set_condition(crd, "Established", "True", now=now, **done)
        finalizers = crd["metadata"].get("finalizers") or []
        if FINALIZER not in finalizers:
            crd["metadata"]["finalizers"] = [*finalizers, FINALIZER]
    return crd

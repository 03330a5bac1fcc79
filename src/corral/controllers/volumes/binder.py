"""Binds claims to volumes as `plan` says, and keeps the phases of both."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.controllers.volumes.plan import Delete, plan_claim, plan_volume
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from corral.kinds.storage import class_of, read_reference
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Permanent, Result, Tools
from corral.machinery.status import write_status

_FOR = "for"
_FREE = "free"
_UNBOUND = "unbound"


class PersistentVolumeBinder:
    """A key with a namespace is a claim's, one without a volume's."""

    name = "persistent-volume-binder"
    reads = (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES)
    writes = (
        "persistentvolumeclaims",
        "persistentvolumeclaims/status",
        "persistentvolumes",
        "persistentvolumes/status",
    )

    _tools: Tools
    _claims: Informer
    _volumes: Informer
    _classes: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._claims, self._volumes, self._classes = map(tools.caches.get, self.reads)
        self._volumes.add_index(_FOR, lambda volume: [_claim_of(volume)] if _claim_of(volume) else [])
        self._volumes.add_index(_FREE, lambda volume: [] if _claim_of(volume) else [class_of(volume) or ""])
        self._claims.add_index(
            _UNBOUND, lambda claim: [] if claim["spec"].get("volumeName") else [class_of(claim) or ""]
        )

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The object itself, what it refers to and what refers to it; for what is free, the claims of its class."""
        if resource == PERSISTENT_VOLUME_CLAIMS:
            key = key_of(obj)
            named = obj["spec"].get("volumeName")
            referring = [key_of(volume) for volume in self._volumes.index(_FOR, str(key))]
            return [key, *referring, *([Key("", named)] if named else [])]
        storage_class = obj["metadata"]["name"] if resource == STORAGE_CLASSES else class_of(obj) or ""
        waiting = [key_of(claim) for claim in self._claims.index(_UNBOUND, storage_class)]
        if resource == STORAGE_CLASSES:
            return waiting
        reference = obj["spec"].get("claimRef")
        return [key_of(obj), *([read_reference(reference).key] if reference else waiting)]

    async def reconcile(self, key: Key) -> Result:
        """Settle one claim or one volume."""
        try:
            await (self._settle_claim(key) if key.namespace else self._settle_volume(key))
        except ValueError as error:
            return Permanent(str(error))
        return Done()

    async def _settle_claim(self, key: Key) -> None:
        claim = self._claims.get(key)
        if claim is None or (claim["metadata"].get("deletionTimestamp") and not claim["spec"].get("volumeName")):
            return
        storage_class = class_of(claim) or ""
        named = self._volumes.get(Key("", claim["spec"].get("volumeName") or ""))
        volumes = [*self._volumes.index(_FOR, str(key)), *self._volumes.index(_FREE, storage_class)]
        wanted = plan_claim(claim, named, volumes, self._classes.get(Key("", storage_class)))
        if wanted.volume is not None:
            before = self._volumes.get(key_of(wanted.volume))
            assert before is not None
            await self._write(PERSISTENT_VOLUMES, before, wanted.volume)
        written = await self._write(PERSISTENT_VOLUME_CLAIMS, claim, wanted.claim)
        if wanted.news is not None:
            self._tools.events.record(written, wanted.news.type, wanted.news.reason, wanted.news.message)

    async def _settle_volume(self, key: Key) -> None:
        volume = self._volumes.get(key)
        if volume is None:
            return
        wanted = plan_volume(volume, await self._claim_for(volume))
        if isinstance(wanted, Delete):
            metadata = volume["metadata"]
            await self._tools.client.delete(PERSISTENT_VOLUMES, key.name, uid=metadata["uid"])
        else:
            await self._write(PERSISTENT_VOLUMES, volume, wanted)

    async def _claim_for(self, volume: Obj) -> Obj | None:
        """The claim that the volume refers to; that it is gone is asked of the API itself, for its data may go too."""
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            return None
        key = read_reference(reference).key
        claim = self._claims.get(key)
        if claim is not None and claim["metadata"]["uid"] == reference["uid"]:
            return claim
        return await self._tools.client.find(PERSISTENT_VOLUME_CLAIMS, key.name, key.namespace)

    async def _write(self, resource: Resource, before: Obj, after: Obj) -> Obj:
        """Write what differs: the object, then its status."""
        obj = before
        if (after["metadata"], after["spec"]) != (before["metadata"], before["spec"]):
            obj = await self._tools.client.update(resource, after)
        return await write_status(self._tools.client, resource, obj, after.get("status") or {})


def _claim_of(volume: Obj) -> str:
    reference = volume["spec"].get("claimRef")
    return str(read_reference(reference).key) if reference else ""

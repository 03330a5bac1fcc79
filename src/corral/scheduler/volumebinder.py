"""Makes a pod's claims ready before the pod is bound: what was decided is written, then the binding is waited for.

A volume that a claim gets is made to refer to the claim; a claim for which a volume is to be made gets the annotation
of its machine. The persistent-volume binder and the provisioner do the rest, as with kube-scheduler.
"""

import asyncio
from collections.abc import Iterable

from corral.base.errors import CorralError
from corral.client.client import Client
from corral.client.informer import Event, Informer
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from corral.kinds.storage import BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE
from corral.kinds.types import Key, Obj, Resource
from corral.scheduler.volumes import Binding

# kube-scheduler's bindTimeoutSeconds.
_PATIENCE = 600.0


class VolumeBindingError(CorralError):
    """A pod's claims cannot be made ready on the machine that was chosen; the pod is decided anew."""


class VolumeBinder:
    """Writes bindings of claims and waits for them.

    Args:
        claims, volumes: local copies; the scheduler runs them.
    """

    def __init__(self, client: Client, claims: Informer, volumes: Informer) -> None:
        self._client = client
        self._claims = claims
        self._volumes = volumes
        self._waiting: dict[Key, set[asyncio.Event]] = {}
        claims.on_event(self._note)

    async def bind(self, binding: Binding, node: str) -> None:
        """Return when all claims of `binding` are bound.

        Raises:
            VolumeBindingError: that will not happen on `node`.
            StatusError, OSError: something could not be written.
        """
        for name, claim in binding.volumes:
            await self._refer(name, claim)
        for claim in binding.provisions:
            await self._select(claim, node)
        claims = [claim for _, claim in binding.volumes] + list(binding.provisions)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._until_bound(claims, frozenset(binding.provisions), node)
        except TimeoutError as error:
            names = ", ".join(str(claim) for claim in claims)
            raise VolumeBindingError(f"timed out waiting for {names} to be bound") from error

    async def _refer(self, name: str, key: Key) -> None:
        """Let the volume refer to the claim."""
        volume, claim = self._volumes.get(Key("", name)), self._claims.get(key)
        if volume is None or claim is None:
            raise VolumeBindingError(f"persistent volume {name} or its claim {key} is gone")
        uid = claim["metadata"]["uid"]
        if (volume["spec"].get("claimRef") or {}).get("uid") == uid:
            return
        metadata = volume["metadata"]
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": key.namespace,
            "name": key.name,
            "uid": uid,
            "resourceVersion": claim["metadata"]["resourceVersion"],
        }
        patch: Obj = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"claimRef": reference},
        }
        await self._patch(PERSISTENT_VOLUMES, self._volumes, Key("", name), patch)

    async def _select(self, key: Key, node: str) -> None:
        """Let the claim say for which machine a volume is to be made."""
        claim = self._claims.get(key)
        if claim is None:
            raise VolumeBindingError(f"persistentvolumeclaim {key} is gone")
        metadata = claim["metadata"]
        if (metadata.get("annotations") or {}).get(SELECTED_NODE) == node:
            return
        patch: Obj = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "annotations": {SELECTED_NODE: node},
            }
        }
        await self._patch(PERSISTENT_VOLUME_CLAIMS, self._claims, key, patch)

    async def _patch(self, resource: Resource, informer: Informer, key: Key, patch: Obj) -> None:
        written = await self._client.patch(resource, key.name, patch, key.namespace)
        # What is waited for next must not be judged by a copy from before this write.
        await informer.reached(int(written["metadata"]["resourceVersion"]))

    async def _until_bound(self, claims: Iterable[Key], provisions: frozenset[Key], node: str) -> None:
        news = asyncio.Event()
        missing = set(claims)
        for key in missing:
            self._waiting.setdefault(key, set()).add(news)
        try:
            while missing:
                news.clear()
                missing = {key for key in missing if not self._is_bound(key, key in provisions, node)}
                if missing:
                    await news.wait()
        finally:
            for key in claims:
                self._waiting[key].discard(news)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _is_bound(self, key: Key, provision: bool, node: str) -> bool:
        claim = self._claims.get(key)
        if claim is None or claim["metadata"].get("deletionTimestamp"):
            raise VolumeBindingError(f"persistentvolumeclaim {key} is gone")
        annotations = claim["metadata"].get("annotations") or {}
        if claim["spec"].get("volumeName") and BIND_COMPLETED in annotations:
            return True
        if provision and annotations.get(SELECTED_NODE) != node:
            raise VolumeBindingError(f"provisioning failed for PVC {key.name}")
        return False

    def _note(self, event: Event) -> None:
        for news in self._waiting.get(event.key, ()):
            news.set()

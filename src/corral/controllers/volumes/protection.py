"""Nothing that is used goes: finalizers hold claims that pods use, and volumes that claims have."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from corral.kinds.storage import CLAIM_PROTECTION, VOLUME_PROTECTION, claims_of
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery import finalizers
from corral.machinery.api import Done, Result, Tools

_USERS = "claims"


class ClaimProtection:
    """A claim stays as long as a pod on a machine uses it."""

    name = "pvc-protection-controller"
    reads = (PERSISTENT_VOLUME_CLAIMS, PODS)
    writes = ("persistentvolumeclaims",)

    _tools: Tools
    _claims: Informer
    _pods: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._claims, self._pods = map(tools.caches.get, self.reads)
        self._pods.add_index(_USERS, lambda pod: [str(key) for key in _claims_of(pod)])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The claim, or those of a pod."""
        return _claims_of(obj) if resource == PODS else [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        """Hold the claim, or let it go."""
        claim = self._claims.get(key)
        if claim is None:
            return Done()
        if not finalizers.is_deleting(claim):
            await finalizers.add(self._tools.client, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)
        elif finalizers.has(claim, CLAIM_PROTECTION) and not await self._is_used(key):
            await finalizers.remove(self._tools.client, PERSISTENT_VOLUME_CLAIMS, claim, CLAIM_PROTECTION)
        return Done()

    async def _is_used(self, key: Key) -> bool:
        if any(map(_uses, self._pods.index(_USERS, str(key)))):
            return True
        # The copy may lag behind; what is let go now does not come back.
        listed = await self._tools.client.list(PODS, key.namespace)
        return any(key in _claims_of(pod) and _uses(pod) for pod in listed["items"])


class VolumeProtection:
    """A volume stays as long as a claim has it."""

    name = "pv-protection-controller"
    reads = (PERSISTENT_VOLUMES,)
    writes = ("persistentvolumes",)

    _tools: Tools

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The volume."""
        return [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        """Hold the volume, or let it go."""
        volume = self._tools.caches.get(PERSISTENT_VOLUMES).get(key)
        if volume is None:
            return Done()
        client = self._tools.client
        if not finalizers.is_deleting(volume):
            await finalizers.add(client, PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)
        elif (volume.get("status") or {}).get("phase") != "Bound":
            await finalizers.remove(client, PERSISTENT_VOLUMES, volume, VOLUME_PROTECTION)
        return Done()


def _claims_of(pod: Obj) -> list[Key]:
    return [Key(pod["metadata"].get("namespace", ""), name) for name, _ in claims_of(pod)]


def _uses(pod: Obj) -> bool:
    """Whether a machine may have the pod's volumes mounted."""
    return bool(pod["spec"].get("nodeName")) and not is_terminal(pod)

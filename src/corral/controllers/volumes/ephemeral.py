"""Makes the claims of pods' `ephemeral` volumes: named after pod and volume, owned by the pod, gone with it."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery import finalizers
from corral.machinery.api import Done, Result, Temporary, Tools


class EphemeralVolumeController:
    """Keyed by pod."""

    name = "ephemeral-volume-controller"
    reads = (PODS, PERSISTENT_VOLUME_CLAIMS)
    writes = ("persistentvolumeclaims",)

    _tools: Tools
    _pods: Informer
    _claims: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._pods, self._claims = map(tools.caches.get, self.reads)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A pod with such volumes; the pod that owns a claim."""
        if resource == PODS:
            return [key_of(obj)] if any("ephemeral" in volume for volume in obj["spec"].get("volumes") or ()) else []
        owners = obj["metadata"].get("ownerReferences") or ()
        return [Key(obj["metadata"]["namespace"], owner["name"]) for owner in owners if owner.get("kind") == "Pod"]

    async def reconcile(self, key: Key) -> Result:
        """Make the claims that are missing."""
        pod = self._pods.get(key)
        if pod is None or is_terminal(pod) or finalizers.is_deleting(pod):
            return Done()
        for wanted in new_claims(pod):
            there = self._claims.get(key_of(wanted))
            if there is None:
                await self._tools.client.create(PERSISTENT_VOLUME_CLAIMS, wanted)
            elif not _is_owned(there, pod):
                # Of an earlier pod of the same name, and about to be collected; or somebody else's for good.
                return Temporary(f"PVC {key_of(wanted)} was not created for pod {key} (pod is not owner)")
        return Done()


def new_claims(pod: Obj) -> list[Obj]:
    """The claims that `pod` needs of its own."""
    metadata = pod["metadata"]
    owner = {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    found = []
    for volume in pod["spec"].get("volumes") or ():
        template = (volume.get("ephemeral") or {}).get("volumeClaimTemplate")
        if template is None:
            continue
        given = template.get("metadata") or {}
        about = {field: given[field] for field in ("labels", "annotations") if given.get(field)}
        name = f"{metadata['name']}-{volume['name']}"
        found.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    **about,
                    "name": name,
                    "namespace": metadata["namespace"],
                    "ownerReferences": [owner],
                },
                "spec": template["spec"],
            }
        )
    return found


def _is_owned(claim: Obj, pod: Obj) -> bool:
    owners = claim["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == pod["metadata"]["uid"] for owner in owners)

"""Volumes of the class `corral-local`: a directory on the machine that the scheduler chose for the claim's first pod.

Here only the PersistentVolume is made; its directory is made by the machine's agent when a pod first mounts it, and
removed by the agent when the volume is deleted: a finalizer on the volume says that the directory still stands.
"""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.kinds.resources import NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from corral.kinds.status import StatusError
from corral.kinds.storage import (
    HOSTNAME,
    LOCAL_FINALIZER,
    LOCAL_PROVISIONER,
    MACHINE,
    PROVISIONED_BY,
    SELECTED_NODE,
    VOLUMES_DIRECTORY,
    class_of,
    is_local,
    machine_of,
)
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery import finalizers
from corral.machinery.api import Done, Result, Tools

_MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})
_OURS = "ours"


class LocalProvisioner:
    """A key with a namespace is a claim's, one without a volume's."""

    name = "corral-local-provisioner"
    reads = (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES, NODES)
    writes = ("persistentvolumeclaims", "persistentvolumes")

    _tools: Tools
    _claims: Informer
    _volumes: Informer
    _classes: Informer
    _nodes: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._claims, self._volumes, self._classes, self._nodes = map(tools.caches.get, self.reads)
        self._volumes.add_index(_OURS, lambda volume: [machine_of(volume)] if is_local(volume) else [])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Claims and volumes themselves; the volumes of a machine."""
        if resource == NODES:
            # Machines tell of themselves all the time; here only that one has gone matters.
            gone = self._nodes.get(key_of(obj)) is None
            return [key_of(volume) for volume in self._volumes.index(_OURS, obj["metadata"]["name"])] if gone else []
        return () if resource == STORAGE_CLASSES else [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        """Make a volume, or let one go."""
        if key.namespace:
            await self._provision(key)
        else:
            await self._reclaim(key)
        return Done()

    async def _provision(self, key: Key) -> None:
        claim = self._claims.get(key)
        if claim is None or claim["spec"].get("volumeName") or claim["metadata"].get("deletionTimestamp"):
            return
        storage_class = self._classes.get(Key("", class_of(claim) or ""))
        if storage_class is None or storage_class.get("provisioner") != LOCAL_PROVISIONER:
            return
        machine = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE, "")
        if not machine and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
            return
        node = self._nodes.get(Key("", machine))
        why = refusal(claim, node, machine)
        if why or node is None:
            await self._fail(claim, machine, why)
            return
        try:
            made = await self._tools.client.create(PERSISTENT_VOLUMES, new_volume(claim, storage_class, node))
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise
            return
        text = f"Successfully provisioned volume {made['metadata']['name']}"
        self._tools.events.record(claim, "Normal", "ProvisioningSucceeded", text)

    async def _fail(self, claim: Obj, machine: str, why: str) -> None:
        """Say why, and let the scheduler choose another machine."""
        text = f'failed to provision volume with StorageClass "{class_of(claim)}": {why}'
        self._tools.events.record(claim, "Warning", "ProvisioningFailed", text)
        if machine:
            metadata = claim["metadata"]
            patch: Obj = {
                "metadata": {
                    "uid": metadata["uid"],
                    "resourceVersion": metadata["resourceVersion"],
                    "annotations": {SELECTED_NODE: None},
                }
            }
            await self._tools.client.patch(PERSISTENT_VOLUME_CLAIMS, metadata["name"], patch, metadata["namespace"])

    async def _reclaim(self, key: Key) -> None:
        volume = self._volumes.get(key)
        if volume is None or not is_local(volume):
            return
        client, metadata = self._tools.client, volume["metadata"]
        if not finalizers.is_deleting(volume):
            released = (volume.get("status") or {}).get("phase") == "Released"
            if released and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
                await client.delete(PERSISTENT_VOLUMES, key.name, uid=metadata["uid"])
        elif finalizers.has(volume, LOCAL_FINALIZER) and await self._is_orphan(volume):
            await finalizers.remove(client, PERSISTENT_VOLUMES, volume, LOCAL_FINALIZER)

    async def _is_orphan(self, volume: Obj) -> bool:
        """Whether the machine is gone, and the directory with it."""
        machine = machine_of(volume)
        return self._nodes.get(Key("", machine)) is None and await self._tools.client.find(NODES, machine) is None


def refusal(claim: Obj, node: Obj | None, machine: str) -> str:
    """Why no volume can be made for `claim` on `machine`; empty if it can."""
    spec = claim["spec"]
    modes = set(spec.get("accessModes") or ()) - _MODES
    if not machine:
        return "its volumeBindingMode must be WaitForFirstConsumer: a machine is chosen for the first pod"
    if modes:
        return f"a local volume is for one machine: use ReadWriteOnce instead of {', '.join(sorted(modes))}"
    if spec.get("volumeMode") == "Block":
        return "a local volume is a directory: use volumeMode Filesystem"
    if spec.get("selector"):
        return "claim.spec.selector is not supported: volumes are made for one claim each"
    if node is None:
        return f"node {machine!r} not found"
    if not _directory_of(node):
        return f"node {machine!r} has no annotation {VOLUMES_DIRECTORY}: its agent does not keep volumes"
    return ""


def new_volume(claim: Obj, storage_class: Obj, node: Obj) -> Obj:
    """The volume for `claim` on the machine of `node`."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    host = (node["metadata"].get("labels") or {}).get(HOSTNAME) or node["metadata"]["name"]
    need = {"key": HOSTNAME, "operator": "In", "values": [host]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {MACHINE: node["metadata"]["name"]},
            "annotations": {PROVISIONED_BY: LOCAL_PROVISIONER},
            "finalizers": [LOCAL_FINALIZER],
        },
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "local": {"path": f"{_directory_of(node)}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [need]}]}},
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
        },
    }


def _directory_of(node: Obj) -> str:
    return str((node["metadata"].get("annotations") or {}).get(VOLUMES_DIRECTORY, "")).rstrip("/")

"""What the scheduler looks at besides machines and pods: which kinds, and what it keeps of each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from corral.base.errors import CorralError
from corral.kinds.podgroups import key_of_group, minimum_of
from corral.kinds.resources import (
    COSCHEDULING_POD_GROUPS,
    CSI_NODES,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    POD_GROUPS,
    STORAGE_CLASSES,
)
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.storage import BIND_COMPLETED, SELECTED_NODE, read_claim, read_class, read_volume
from corral.kinds.types import Obj, Resource, key_of
from corral.scheduler.gangs import GangBook
from corral.scheduler.preemption import Budget
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.volumes import read_limits

RESOURCES: Sequence[Resource] = (
    *(NAMESPACES, POD_DISRUPTION_BUDGETS, POD_GROUPS, COSCHEDULING_POD_GROUPS),
    *(STORAGE_CLASSES, CSI_NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS),
)
KINDS = frozenset(resource.kind for resource in RESOURCES)

_METADATA = ("name", "namespace", "uid", "labels", "creationTimestamp", "deletionTimestamp", "ownerReferences")
_ANNOTATIONS = (BIND_COMPLETED, SELECTED_NODE, "volume.beta.kubernetes.io/storage-class")
_SPEC: Mapping[str, Sequence[str]] = {
    "PodDisruptionBudget": ("selector",),
    "PodGroup": ("schedulingPolicy", "minMember", "scheduleTimeoutSeconds"),
    "CSINode": ("drivers",),
    "PersistentVolume": (
        *("storageClassName", "capacity", "accessModes", "volumeMode", "nodeAffinity", "claimRef", "csi"),
    ),
    "PersistentVolumeClaim": (
        *("storageClassName", "resources", "accessModes", "volumeMode", "selector", "volumeName"),
    ),
}
_TOP = ("apiVersion", "kind", "provisioner", "volumeBindingMode", "allowedTopologies")
_STATUS = ("phase", "disruptionsAllowed")


def trim(obj: Obj) -> Obj:
    """The parts of an object of `KINDS` that placement looks at."""
    metadata = _pick(obj["metadata"], _METADATA)
    notes = _pick(obj["metadata"].get("annotations"), _ANNOTATIONS)
    spec, status = _pick(obj.get("spec"), _SPEC.get(obj["kind"], ())), _pick(obj.get("status"), _STATUS)
    if spec.get("csi"):
        spec["csi"] = _pick(spec["csi"], ("driver", "volumeHandle"))
    kept = {**_pick(obj, _TOP), "metadata": {**metadata, **({"annotations": notes} if notes else {})}}
    return kept | ({"spec": spec} if spec else {}) | ({"status": status} if status else {})


def _pick(fields: Mapping[str, Any] | None, names: Iterable[str]) -> Obj:
    return {name: fields[name] for name in names if name in fields} if fields else {}


def tell(obj: Obj, snapshot: Snapshot, gangs: GangBook) -> Budget | None:
    """Let the snapshot and the gangs know of an object of `KINDS`; a disruption budget is given back instead.

    Raises:
        CorralError: it cannot be read.
    """
    try:
        return _tell(obj, snapshot, gangs)
    except (ValueError, StatusError) as error:
        reason = f"cannot read {obj['kind']} {str(key_of(obj))!r}: {error}"
        raise CorralError(reason, "correct it in the input") from error


def _tell(obj: Obj, snapshot: Snapshot, gangs: GangBook) -> Budget | None:
    key, volumes = key_of(obj), snapshot.volumes
    match obj["kind"]:
        case "Namespace":
            snapshot.put_namespace(key.name, obj["metadata"].get("labels") or {})
        case "PodGroup":
            gangs.put(key_of_group(obj), minimum_of(obj))
        case "StorageClass":
            volumes.put_class(key.name, read_class(obj))
        case "CSINode":
            volumes.put_limits(key.name, read_limits(obj))
        case "PersistentVolume":
            volumes.put_volume(key.name, read_volume(obj))
        case "PersistentVolumeClaim":
            volumes.put_claim(key, read_claim(obj))
        case "PodDisruptionBudget":
            allowed = (obj.get("status") or {}).get("disruptionsAllowed") or 0
            selector = LabelSelector.from_object((obj.get("spec") or {}).get("selector"))
            return Budget(key.namespace, selector, int(allowed))
    return None

"""Tables of volumes, claims, classes and drivers."""

from typing import Any, Final

from corral.kinds.kind import Column
from corral.kinds.tables.printer import AGE, NAME, Printers, number, of_spec, of_status, printer, spec, status, text
from corral.kinds.tables.texts import NONE, UNSET, quantity_text
from corral.kinds.types import Obj

_MODES: Final = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
_DEFAULT_CLASS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_CLASS_ANNOTATION: Final = "volume.beta.kubernetes.io/storage-class"


def _modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def _class(obj: Obj) -> str:
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
    return str(of_spec("storageClassName")(obj) if annotated is None else annotated)


def _phase(obj: Obj) -> str:
    return "Terminating" if obj["metadata"].get("deletionTimestamp") else status(obj).get("phase") or ""


def _claim(volume: Obj) -> str:
    claim = spec(volume).get("claimRef")
    return f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else ""


def _storage(capacity: Obj | None) -> str:
    return quantity_text((capacity or {}).get("storage"))


def _bound(read: Any) -> Any:
    """A cell that stays empty until the claim has a volume."""
    return lambda claim: read(claim) if spec(claim).get("volumeName") else ""


def _class_name(storage_class: Obj) -> str:
    annotations = storage_class["metadata"].get("annotations") or {}
    default = any(annotations.get(key) == "true" for key in _DEFAULT_CLASS)
    return f"{storage_class['metadata']['name']} (default)" if default else str(storage_class["metadata"]["name"])


def _audiences(driver: Obj) -> str:
    requests = spec(driver).get("tokenRequests")
    return UNSET if requests is None else ",".join(request.get("audience", "") for request in requests)


def _top(field: str, absent: Any) -> Any:
    return lambda obj: absent if obj.get(field) is None else obj[field]


PRINTERS: Final[Printers] = {
    ("", "persistentvolumes"): printer(
        NAME,
        text("Capacity", lambda obj: _storage(spec(obj).get("capacity"))),
        text("Access Modes", lambda obj: _modes(spec(obj).get("accessModes"))),
        text("Reclaim Policy", of_spec("persistentVolumeReclaimPolicy")),
        text("Status", _phase),
        text("Claim", _claim),
        text("StorageClass", _class),
        text("VolumeAttributesClass", of_spec("volumeAttributesClassName", UNSET)),
        text("Reason", of_status("reason", "")),
        AGE,
        text("VolumeMode", of_spec("volumeMode", UNSET), wide=True),
    ),
    ("", "persistentvolumeclaims"): printer(
        NAME,
        text("Status", _phase),
        text("Volume", of_spec("volumeName")),
        text("Capacity", _bound(lambda obj: _storage(status(obj).get("capacity")))),
        text("Access Modes", _bound(lambda obj: _modes(status(obj).get("accessModes")))),
        text("StorageClass", _class),
        text("VolumeAttributesClass", of_spec("volumeAttributesClassName", UNSET)),
        AGE,
        text("VolumeMode", of_spec("volumeMode", UNSET), wide=True),
    ),
    ("storage.k8s.io", "storageclasses"): printer(
        (Column("Name", format="name"), lambda obj, now: _class_name(obj)),
        text("Provisioner", _top("provisioner", "")),
        text("ReclaimPolicy", _top("reclaimPolicy", "Delete")),
        text("VolumeBindingMode", _top("volumeBindingMode", "Immediate")),
        text("AllowVolumeExpansion", _top("allowVolumeExpansion", False)),
        AGE,
    ),
    ("storage.k8s.io", "volumeattributesclasses"): printer(NAME, text("DriverName", _top("driverName", "")), AGE),
    ("storage.k8s.io", "volumeattachments"): printer(
        NAME,
        text("Attacher", of_spec("attacher")),
        text("PV", lambda obj: (spec(obj).get("source") or {}).get("persistentVolumeName") or ""),
        text("Node", of_spec("nodeName")),
        text("Attached", of_status("attached", False), type="boolean"),
        AGE,
    ),
    ("storage.k8s.io", "csinodes"): printer(
        NAME, number("Drivers", lambda obj: len(spec(obj).get("drivers") or ())), AGE
    ),
    ("storage.k8s.io", "csidrivers"): printer(
        NAME,
        text("AttachRequired", of_spec("attachRequired", True), type="boolean"),
        text("PodInfoOnMount", of_spec("podInfoOnMount", False), type="boolean"),
        text("StorageCapacity", of_spec("storageCapacity", False), type="boolean"),
        text("TokenRequests", _audiences),
        text("RequiresRepublish", of_spec("requiresRepublish", False), type="boolean"),
        text("Modes", lambda obj: ",".join(spec(obj).get("volumeLifecycleModes") or ()) or NONE),
        AGE,
    ),
    ("storage.k8s.io", "csistoragecapacities"): printer(
        NAME,
        text("StorageClassName", _top("storageClassName", "")),
        text("Capacity", lambda obj: UNSET if obj.get("capacity") is None else quantity_text(obj["capacity"])),
    ),
}

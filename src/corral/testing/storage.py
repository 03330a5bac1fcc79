"""Builders of claims, volumes and classes of storage for tests."""

from collections.abc import Mapping, Sequence

from corral.kinds.storage import BIND_COMPLETED
from corral.kinds.types import Obj


def storage_class(name: str, *, provisioner: str = "", delayed: bool = True, **fields: object) -> Obj:
    """A StorageClass; without a provisioner nobody makes volumes of it."""
    return {
        "kind": "StorageClass",
        "apiVersion": "storage.k8s.io/v1",
        "metadata": {"name": name},
        "provisioner": provisioner or "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer" if delayed else "Immediate",
        **fields,
    }


def claim(
    name: str,
    *,
    namespace: str = "default",
    storage: str = "fast",
    size: str = "1Gi",
    volume: str = "",
    bound: bool = False,
    modes: Sequence[str] = ("ReadWriteOnce",),
    annotations: Mapping[str, str] | None = None,
    uid: str = "",
    **spec: object,
) -> Obj:
    """A PersistentVolumeClaim of the class `storage`; `bound` to `volume`, or insisting on it."""
    marks = {**(annotations or {}), **({BIND_COMPLETED: "yes"} if bound else {})}
    return {
        "kind": "PersistentVolumeClaim",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "annotations": marks},
        "spec": {
            "accessModes": list(modes),
            "resources": {"requests": {"storage": size}},
            "storageClassName": storage,
            "volumeMode": "Filesystem",
            **({"volumeName": volume} if volume else {}),
            **spec,
        },
        "status": {"phase": "Bound" if bound else "Pending"},
    }


def volume(
    name: str,
    *,
    storage: str = "fast",
    size: str = "1Gi",
    on: str = "",
    of: str = "",
    labels: Mapping[str, str] | None = None,
    modes: Sequence[str] = ("ReadWriteOnce",),
    phase: str = "",
    **spec: object,
) -> Obj:
    """A PersistentVolume of the class `storage`, local to the machine `on`, given to the claim `of` of `default`."""
    source: Obj = {"hostPath": {"path": f"/volumes/{name}"}}
    if on:
        need = {"key": "kubernetes.io/hostname", "operator": "In", "values": [on]}
        affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [need]}]}}
        source = {"local": {"path": f"/volumes/{name}"}, "nodeAffinity": affinity}
    reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": of, "uid": f"uid-{of}"}
    return {
        "kind": "PersistentVolume",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": dict(labels or {})},
        "spec": {
            "accessModes": list(modes),
            "capacity": {"storage": size},
            "storageClassName": storage,
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain",
            **source,
            **({"claimRef": reference} if of else {}),
            **spec,
        },
        "status": {"phase": phase or ("Bound" if of else "Available")},
    }

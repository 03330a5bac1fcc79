"""Which claim gets which volume, and how both stand. Pure.

The rules are those of Kubernetes' persistent-volume controller: a binding is written on the volume first (`claimRef`),
then on the claim (`volumeName` and an annotation), so that one that was interrupted is completed or undone by whoever
looks next. Claims whose class waits for their first pod are bound only after the scheduler has spoken: by a `claimRef`
on the volume of its choice, or by the name of a machine on the claim, for which a provisioner makes a volume.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from corral.kinds.storage import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    PROVISIONER,
    Claim,
    by_size,
    holds,
    read_claim,
    read_class,
    read_reference,
    read_volume,
    refers,
    suits,
)
from corral.kinds.types import Obj

_PROVISIONER_BETA: Final = "volume.beta.kubernetes.io/storage-provisioner"


@dataclass(frozen=True, slots=True)
class News:
    """An event to tell."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """How a claim, and the volume that it gets, should be; the volume is written first."""

    claim: Obj
    volume: Obj | None = None
    news: News | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """The volume is not needed any more, and its policy is to delete it."""


def plan_claim(claim: Obj, named: Obj | None, volumes: Iterable[Obj], storage_class: Obj | None) -> ClaimPlan:
    """What is to be written for `claim`.

    Args:
        named: the volume of its `spec.volumeName`, if there is one.
        volumes: those that refer to the claim, and those of its class that refer to none.
        storage_class: its class, if there is one.

    Raises:
        ValueError, StatusError: the claim cannot be read.
    """
    view = read_claim(claim)
    if view.bound:
        return _keep(claim, view, named)
    if view.volume:
        return _insist(claim, view, named)
    there = [(read_volume(volume), volume) for volume in volumes]
    own = [(volume, obj) for volume, obj in there if volume.is_for(view) and holds(volume, view)]
    meaning = read_class(storage_class) if storage_class is not None else None
    waits = meaning is not None and meaning.delayed
    free = [(volume, obj) for volume, obj in there if volume.reference is None and suits(volume, view)]
    found = min(own or ([] if waits else free), key=lambda pair: by_size(pair[0]), default=None)
    if found is not None:
        return _bind(claim, found[1])
    if waits and not view.selected_node:
        text = "waiting for first consumer to be created before binding"
        return _pending(claim, News("Normal", "WaitForFirstConsumer", text))
    if meaning is not None and meaning.provisions:
        return _provision(claim, meaning.provisioner)
    if view.storage_class and meaning is None:
        text = f'storageclass.storage.k8s.io "{view.storage_class}" not found'
        return _pending(claim, News("Warning", "ProvisioningFailed", text))
    lacks = "no storage class is set" if not view.storage_class else "its storage class has no provisioner"
    text = f"no persistent volumes available for this claim and {lacks}"
    return _pending(claim, News("Normal", "FailedBinding", text))


def _keep(claim: Obj, view: Claim, volume: Obj | None) -> ClaimPlan:
    """A claim that was bound once stays so, or has lost what it had."""
    if volume is None:
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return _lost(claim, News("Warning", "ClaimLost", text))
    reference = read_volume(volume).reference
    if reference is not None and not refers(reference, view):
        text = "Two claims are bound to the same volume, this one is bound incorrectly"
        return _lost(claim, News("Warning", "ClaimMisbound", text))
    return _bind(claim, volume)


def _insist(claim: Obj, view: Claim, volume: Obj | None) -> ClaimPlan:
    """A claim for one certain volume."""
    if volume is None:
        return _pending(claim)
    found = read_volume(volume)
    if found.reference is not None:
        if refers(found.reference, view):
            return _bind(claim, volume)
        text = f'volume "{found.name}" already bound to a different claim.'
        return _pending(claim, News("Warning", "FailedBinding", text))
    if found.size < view.size:
        why = "requested PV is too small"
    elif found.storage_class != view.storage_class:
        why = "storageClassName does not match"
    elif found.block != view.block:
        why = "incompatible volumeMode"
    elif not view.modes <= found.modes:
        why = "incompatible accessMode"
    else:
        return _bind(claim, volume)
    text = f'Cannot bind to requested volume "{found.name}": {why}'
    return _pending(claim, News("Warning", "VolumeMismatch", text))


def _bind(claim: Obj, volume: Obj) -> ClaimPlan:
    made, given = deepcopy(claim), deepcopy(volume)
    metadata, spec = claim["metadata"], given["spec"]
    if not (spec.get("claimRef") or {}).get("uid"):
        if not spec.get("claimRef"):
            _annotate(given, BOUND_BY_CONTROLLER, "yes")
        spec["claimRef"] = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
    given["status"] = {**(given.get("status") or {}), "phase": "Bound"}
    if not made["spec"].get("volumeName"):
        made["spec"]["volumeName"] = given["metadata"]["name"]
        _annotate(made, BOUND_BY_CONTROLLER, "yes")
    _annotate(made, BIND_COMPLETED, "yes")
    status = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["capacity"]}
    made["status"] = {**(made.get("status") or {}), **status}
    return ClaimPlan(made, given)


def _provision(claim: Obj, provisioner: str) -> ClaimPlan:
    made = deepcopy(claim)
    _annotate(made, PROVISIONER, provisioner)
    _annotate(made, _PROVISIONER_BETA, provisioner)
    text = (
        f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
        "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
        "correctly registered."
    )
    return _pending(made, News("Normal", "ExternalProvisioning", text))


def _pending(claim: Obj, news: News | None = None) -> ClaimPlan:
    return ClaimPlan({**claim, "status": {**(claim.get("status") or {}), "phase": "Pending"}}, news=news)


def _lost(claim: Obj, news: News) -> ClaimPlan:
    known = (claim.get("status") or {}).get("phase") == "Lost"
    return ClaimPlan({**claim, "status": {"phase": "Lost"}}, news=None if known else news)


def _annotate(obj: Obj, name: str, value: str) -> None:
    metadata = obj["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), name: value}


def plan_volume(volume: Obj, claim: Obj | None) -> Obj | Delete:
    """How `volume` should be, or that it should go.

    Args:
        claim: the one that `spec.claimRef` names, if there is one.
    """
    spec, name = volume["spec"], volume["metadata"]["name"]
    raw = spec.get("claimRef")
    if not raw or not raw.get("uid"):
        return _with_phase(volume, "Available")
    reference = read_reference(raw)
    if claim is None or claim["metadata"]["uid"] != reference.uid:
        return _with_phase(volume, "Released")
    holds_other = claim["spec"].get("volumeName") not in (None, "", name)
    if not holds_other:
        # While the claim does not say so too, the volume keeps the phase that it has.
        return _with_phase(volume, "Bound") if claim["spec"].get("volumeName") else volume
    annotations = volume["metadata"].get("annotations") or {}
    if PROVISIONED_BY in annotations and spec.get("persistentVolumeReclaimPolicy") == "Delete":
        return Delete()
    freed = deepcopy(volume)
    if annotations.get(BOUND_BY_CONTROLLER):
        del freed["spec"]["claimRef"]
        del freed["metadata"]["annotations"][BOUND_BY_CONTROLLER]
    else:
        del freed["spec"]["claimRef"]["uid"]
        freed["spec"]["claimRef"].pop("resourceVersion", None)
    return _with_phase(freed, "Available")


def _with_phase(volume: Obj, phase: str) -> Obj:
    return {**volume, "status": {**(volume.get("status") or {}), "phase": phase}}

"""Claims, volumes and classes of storage, read once, and which volume suits which claim. Pure.

The rules are those of k8s.io/component-helpers/storage/volume, which kube-scheduler and the persistent-volume
controller share; the scheduler and the controllers of a cell share this file in the same way.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from corral.kinds.podspec import amount
from corral.kinds.selectors import LabelSelector, NodeSelector, Requirement
from corral.kinds.types import Key, Obj

SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
"""On a claim: the machine that the scheduler chose for its first pod."""
BIND_COMPLETED: Final = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER: Final = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
IS_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
_IS_DEFAULT_BETA: Final = "storageclass.beta.kubernetes.io/is-default-class"
CLAIM_PROTECTION: Final = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION: Final = "kubernetes.io/pv-protection"
NO_PROVISIONER: Final = "kubernetes.io/no-provisioner"
LOCAL_PROVISIONER: Final = "corral.dev/local"
"""Corral's own: a directory of the machine where the claim's first pod runs."""
LOCAL_FINALIZER: Final = "corral.dev/local-volume"
"""On a volume of that provisioner: its directory still stands."""
MACHINE: Final = "corral.dev/machine"
"""A label of volumes of that provisioner: where they are."""
VOLUMES_DIRECTORY: Final = "corral.dev/volumes-directory"
"""On a Node: where its agent keeps such directories."""
HOSTNAME: Final = "kubernetes.io/hostname"

# Older than the field storageClassName, and still honoured everywhere.
_CLASS: Final = "volume.beta.kubernetes.io/storage-class"


@dataclass(frozen=True, slots=True)
class ClaimReference:
    """Whom a volume is for; an empty `uid` means whichever claim has the name."""

    key: Key
    uid: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What matters of a PersistentVolumeClaim. `size` in bytes."""

    key: Key
    uid: str
    storage_class: str
    size: int
    modes: frozenset[str]
    block: bool
    selector: LabelSelector | None
    volume: str
    """The name of the volume that it has, or insists on."""
    bound: bool
    lost: bool
    deleting: bool
    selected_node: str
    owner: str
    """The uid of the pod that it was made for, if any."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What matters of a PersistentVolume. `size` in bytes."""

    name: str
    storage_class: str
    size: int
    modes: frozenset[str]
    block: bool
    labels: tuple[tuple[str, str], ...]
    affinity: NodeSelector | None
    """None: reachable from every machine."""
    reference: ClaimReference | None
    available: bool
    deleting: bool
    host: str
    """The only machine, by its host name, that can use it, if its affinity says just that."""
    driver: str
    """The CSI driver; empty for other sources."""
    handle: str

    def reaches(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a machine can use it."""
        if self.host:
            return labels.get(HOSTNAME) == self.host
        return self.affinity is None or self.affinity.matches(labels, name)

    def is_for(self, claim: Claim) -> bool:
        """Whether it refers to `claim`."""
        return refers(self.reference, claim)


@dataclass(frozen=True, slots=True)
class StorageClass:
    """What matters of a StorageClass."""

    name: str
    provisioner: str
    delayed: bool
    """Whether volumes are bound only when a pod asks for them (WaitForFirstConsumer)."""
    topologies: NodeSelector | None
    """Where volumes can be made; None: everywhere."""

    @property
    def provisions(self) -> bool:
        """Whether somebody makes volumes of this class."""
        return self.provisioner not in ("", NO_PROVISIONER)


def read_claim(obj: Obj) -> Claim:
    """The meaning of a PersistentVolumeClaim.

    Raises:
        ValueError, StatusError: its size or selector cannot be read.
    """
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    selector, volume = spec.get("selector"), spec.get("volumeName") or ""
    requests = (spec.get("resources") or {}).get("requests") or {}
    owners = metadata.get("ownerReferences") or ()
    return Claim(
        key=Key(metadata.get("namespace", ""), metadata["name"]),
        uid=metadata.get("uid", ""),
        storage_class=class_of(obj) or "",
        size=amount("storage", requests.get("storage", 0)),
        modes=frozenset(spec.get("accessModes") or ()),
        block=spec.get("volumeMode") == "Block",
        selector=LabelSelector.from_object(selector) if selector is not None else None,
        volume=volume,
        bound=bool(volume) and BIND_COMPLETED in annotations,
        lost=(obj.get("status") or {}).get("phase") == "Lost",
        deleting=bool(metadata.get("deletionTimestamp")),
        selected_node=annotations.get(SELECTED_NODE, ""),
        owner=next((owner.get("uid", "") for owner in owners if owner.get("controller")), ""),
    )


def read_volume(obj: Obj) -> Volume:
    """The meaning of a PersistentVolume.

    Raises:
        ValueError, StatusError: its size or node affinity cannot be read.
    """
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    required = (spec.get("nodeAffinity") or {}).get("required")
    affinity = NodeSelector.from_object(required) if required is not None else None
    reference, source = spec.get("claimRef"), spec.get("csi") or {}
    return Volume(
        name=metadata["name"],
        storage_class=class_of(obj) or "",
        size=amount("storage", (spec.get("capacity") or {}).get("storage", 0)),
        modes=frozenset(spec.get("accessModes") or ()),
        block=spec.get("volumeMode") == "Block",
        labels=tuple(sorted((metadata.get("labels") or {}).items())),
        affinity=affinity,
        host=_only_host(affinity),
        reference=read_reference(reference) if reference else None,
        available=(obj.get("status") or {}).get("phase") == "Available",
        deleting=bool(metadata.get("deletionTimestamp")),
        driver=source.get("driver", ""),
        handle=source.get("volumeHandle", ""),
    )


def _only_host(affinity: NodeSelector | None) -> str:
    if affinity is not None and len(affinity.terms) == 1:
        on_labels, on_fields = affinity.terms[0]
        if len(on_labels) == 1 and not on_fields:
            (need,) = on_labels
            if (need.key, need.operator, len(need.values)) == (HOSTNAME, "In", 1):
                return next(iter(need.values))
    return ""


def read_reference(reference: Obj) -> ClaimReference:
    """The meaning of a volume's `claimRef`."""
    return ClaimReference(Key(reference.get("namespace", ""), reference.get("name", "")), reference.get("uid") or "")


def read_class(obj: Obj) -> StorageClass:
    """The meaning of a StorageClass."""
    terms = [
        tuple(
            Requirement(need.get("key", ""), "In", frozenset(need.get("values") or ()))
            for need in term.get("matchLabelExpressions") or ()
        )
        for term in obj.get("allowedTopologies") or ()
    ]
    return StorageClass(
        name=obj["metadata"]["name"],
        provisioner=obj.get("provisioner") or "",
        delayed=obj.get("volumeBindingMode") == "WaitForFirstConsumer",
        topologies=NodeSelector(tuple((term, ()) for term in terms if term)) if terms else None,
    )


def is_local(volume: Obj) -> bool:
    """Whether Corral's own provisioner made the volume."""
    return (volume["metadata"].get("annotations") or {}).get(PROVISIONED_BY) == LOCAL_PROVISIONER


def machine_of(volume: Obj) -> str:
    """The machine that a volume of Corral's own provisioner is on."""
    return str((volume["metadata"].get("labels") or {}).get(MACHINE, ""))


def class_of(obj: Obj) -> str | None:
    """The storage class that a claim or volume names; None if it leaves that open."""
    annotated = (obj["metadata"].get("annotations") or {}).get(_CLASS)
    named = (obj.get("spec") or {}).get("storageClassName")
    return named if annotated is None else str(annotated)


def is_default(storage_class: Obj) -> bool:
    """Whether claims that name no class are of this one."""
    annotations = storage_class["metadata"].get("annotations") or {}
    return "true" in (annotations.get(IS_DEFAULT), annotations.get(_IS_DEFAULT_BETA))


def default_class(classes: Iterable[Obj]) -> str:
    """The class of claims that name none: the youngest default one, then by name; empty if there is none."""
    found = sorted((one["metadata"] for one in classes if is_default(one)), key=lambda metadata: metadata["name"])
    youngest = max(found, key=lambda metadata: metadata.get("creationTimestamp") or "", default={"name": ""})
    return str(youngest["name"])


def claims_of(pod: Obj) -> list[tuple[str, bool]]:
    """The names of the claims that the pod's volumes use, and whether each was made for the pod (`ephemeral`)."""
    found = []
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        claim = volume.get("persistentVolumeClaim")
        if claim is not None:
            found.append((claim.get("claimName", ""), False))
        elif volume.get("ephemeral") is not None:
            found.append((f"{pod['metadata']['name']}-{volume.get('name', '')}", True))
    return found


def refers(reference: ClaimReference | None, claim: Claim) -> bool:
    """Whether `reference` means `claim`."""
    return reference is not None and reference.key == claim.key and reference.uid in ("", claim.uid)


def holds(volume: Volume, claim: Claim) -> bool:
    """Whether `volume` is large enough for `claim`, of its kind, and there to stay."""
    return volume.size >= claim.size and volume.block == claim.block and not volume.deleting


def suits(volume: Volume, claim: Claim) -> bool:
    """Whether `volume`, which is nobody's, can be given to `claim`; apart from where the machine is."""
    return (
        holds(volume, claim)
        and volume.available
        and volume.storage_class == claim.storage_class
        and claim.modes <= volume.modes
        and (claim.selector is None or claim.selector.matches(dict(volume.labels)))
    )


def by_size(volume: Volume) -> tuple[int, int, str]:
    """Sorts volumes: the least that is wasted comes first, then the fewest access modes."""
    return volume.size, len(volume.modes), volume.name

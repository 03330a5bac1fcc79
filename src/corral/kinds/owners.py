"""Owner references: who made an object, and who it goes away with."""

from corral.kinds.types import Obj

CONTROLLER_INDEX = "controller"
"""The index of pods (and of ReplicaSets) by the uid of their controller; orphans stand under `orphan_key`."""


def owners_of(obj: Obj) -> list[Obj]:
    """All owner references of an object."""
    found: list[Obj] = obj["metadata"].get("ownerReferences") or []
    return found


def controller_of(obj: Obj) -> Obj | None:
    """The reference to the one owner that manages the object, or None."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            found: Obj = reference
            return found
    return None


def is_controlled_by(obj: Obj, owner: Obj) -> bool:
    """Whether `owner` (by uid) manages `obj`."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == owner["metadata"]["uid"]


def owner_reference(owner: Obj) -> Obj:
    """A plain reference to `owner`, which must carry apiVersion, kind and a uid."""
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def controller_reference(owner: Obj) -> Obj:
    """A reference to `owner` as the manager of an object; deleting the owner in the foreground waits for the object."""
    return {**owner_reference(owner), "controller": True, "blockOwnerDeletion": True}


def orphan_key(namespace: str) -> str:
    """Where the controller index keeps objects of `namespace` that have no controller."""
    return f"orphans of {namespace}"


def controller_index(obj: Obj) -> list[str]:
    """The indexer of `CONTROLLER_INDEX`."""
    reference = controller_of(obj)
    return [reference["uid"] if reference is not None else orphan_key(obj["metadata"].get("namespace", ""))]

"""Pods made of a template."""

from corral.kinds.owners import controller_reference
from corral.kinds.patch.documents import copied
from corral.kinds.types import Obj


def from_template(template: Obj, owner: Obj, *, prefix: str = "") -> Obj:
    """A pod as `template` says, managed by `owner`, with a generated name after `prefix` (default: the owner's)."""
    described = template.get("metadata") or {}
    metadata: Obj = {
        "generateName": (prefix or owner["metadata"]["name"]) + "-",
        "namespace": owner["metadata"]["namespace"],
        "labels": dict(described.get("labels") or {}),
        "ownerReferences": [controller_reference(owner)],
    }
    if described.get("annotations"):
        metadata["annotations"] = dict(described["annotations"])
    if described.get("finalizers"):
        metadata["finalizers"] = list(described["finalizers"])
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": copied(template.get("spec") or {})}

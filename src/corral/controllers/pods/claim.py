"""Which objects a selector's owner holds, adopts and lets go. Pure.

The rules are those of Kubernetes' controller reference manager: an owner adopts orphans that match its selector and
releases what it controls but no longer matches. An owner that is being deleted does neither.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from corral.controllers.pods.pods import is_deleting
from corral.kinds.owners import controller_of, controller_reference, owners_of
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Claim:
    """What to do so that owner references and selector agree."""

    held: tuple[Obj, ...]
    adopt: tuple[Obj, ...]
    release: tuple[Obj, ...]


def claim(owner: Obj, selector: LabelSelector, owned: Iterable[Obj], orphans: Iterable[Obj]) -> Claim:
    """Sort `owned` (controlled by the owner's uid) and `orphans` (of its namespace, without a controller).

    What names an owner in another namespace is nobody's.
    """
    leaving, namespace = is_deleting(owner), owner["metadata"].get("namespace")
    held: list[Obj] = []
    release: list[Obj] = []
    labels: Obj | None = None
    sort = held.append
    for obj in owned:
        metadata = obj["metadata"]
        if metadata.get("namespace") != namespace:
            continue
        # One owner's objects are mostly alike, and comparing labels is quicker than choosing by them.
        if labels is None or labels != metadata.get("labels"):
            labels = metadata.get("labels") or {}
            matches = leaving or selector.nothing or selector.matches(labels)
            sort = held.append if matches else release.append
        sort(obj)
    adopt = (
        ()
        if leaving or selector.nothing
        else tuple(
            obj
            for obj in orphans
            if controller_of(obj) is None
            and not is_deleting(obj)
            and selector.matches(obj["metadata"].get("labels") or {})
        )
    )
    return Claim(tuple(held), adopt, tuple(release))


def adoption_patch(obj: Obj, owner: Obj) -> Obj:
    """The merge patch that makes `owner` the controller of `obj`; it fails if `obj` changed meanwhile."""
    others = [reference for reference in owners_of(obj) if reference.get("uid") != owner["metadata"]["uid"]]
    return _patch(obj, [*others, controller_reference(owner)])


def release_patch(obj: Obj, owner: Obj, *, finalizer: str = "") -> Obj:
    """The merge patch that takes `owner` (and `finalizer`) off `obj`."""
    patch = _patch(obj, [reference for reference in owners_of(obj) if reference.get("uid") != owner["metadata"]["uid"]])
    held_by = obj["metadata"].get("finalizers") or []
    if finalizer in held_by:
        patch["metadata"]["finalizers"] = [name for name in held_by if name != finalizer] or None
    return patch


def _patch(obj: Obj, references: list[Obj]) -> dict[str, Any]:
    metadata = obj["metadata"]
    return {
        "metadata": {
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "ownerReferences": references or None,
        }
    }

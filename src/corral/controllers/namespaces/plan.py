"""What a deletion of a namespace has come to. Pure.

The conditions are those of Kubernetes' namespace deletion, so that `kubectl describe namespace` says what it waits for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime

from corral.kinds import conditions
from corral.kinds.types import Obj, Resource

FINALIZER = "kubernetes"


def must_empty(namespace: Obj) -> bool:
    """Whether the namespace's content is to be deleted."""
    return bool(namespace["metadata"].get("deletionTimestamp")) and FINALIZER in _finalizers(namespace)


def finalized(namespace: Obj) -> Obj:
    """The namespace let go by us, for its `finalize` subresource."""
    left = [name for name in _finalizers(namespace) if name != FINALIZER]
    return {**namespace, "spec": {**(namespace.get("spec") or {}), "finalizers": left}}


def status(
    namespace: Obj,
    remaining: Mapping[Resource, Sequence[Obj]],
    failures: Sequence[str],
    undiscovered: str,
    now: datetime,
) -> Obj:
    """The status: what remains, which of it is held by which finalizers, and what went wrong."""
    made: Obj = {"status": deepcopy(namespace.get("status") or {})}
    made["status"]["phase"] = "Terminating"
    _set(
        made,
        "NamespaceDeletionDiscoveryFailure",
        undiscovered,
        ("DiscoveryFailed", "ResourcesDiscovered", "All resources successfully discovered"),
        now,
    )
    _set(
        made,
        "NamespaceDeletionContentFailure",
        f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(failures)}" if failures else "",
        ("ContentDeletionFailed", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        now,
    )
    counts = [f"{_name(found)} has {len(objs)} resource instances" for found, objs in remaining.items() if objs]
    _set(
        made,
        "NamespaceContentRemaining",
        f"Some resources are remaining: {', '.join(sorted(counts))}" if counts else "",
        ("SomeResourcesRemain", "ContentRemoved", "All content successfully removed"),
        now,
    )
    holders = Counter(
        name for objs in remaining.values() for obj in objs for name in obj["metadata"].get("finalizers") or ()
    )
    held = [f"{name} in {count} resource instances" for name, count in sorted(holders.items())]
    _set(
        made,
        "NamespaceFinalizersRemaining",
        f"Some content in the namespace has finalizers remaining: {', '.join(held)}" if held else "",
        ("SomeFinalizersRemain", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        now,
    )
    status_: Obj = made["status"]
    return status_


def _set(made: Obj, type_: str, problem: str, words: tuple[str, str, str], now: datetime) -> None:
    """`words`: the reason of a problem, the reason when all is well, and the message then."""
    reason, well, message = words
    if problem:
        conditions.set_condition(made, type_, "True", now=now, reason=reason, message=problem)
    else:
        conditions.set_condition(made, type_, "False", now=now, reason=well, message=message)


def _name(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else f"{resource.plural}."


def _finalizers(namespace: Obj) -> list[str]:
    found: list[str] = (namespace.get("spec") or {}).get("finalizers") or []
    return found

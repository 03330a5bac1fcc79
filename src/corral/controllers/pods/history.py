"""The templates that a DaemonSet or StatefulSet has had, as ControllerRevisions, for `kubectl rollout undo`. Pure."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from corral.controllers.deployments.revisions import template_hash
from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj

HASH_LABEL = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class History:
    """What to do so that the present template is the latest revision."""

    current: str
    """The hash of the present template."""
    create: Obj | None = None
    renumber: tuple[Obj, int] | None = None
    """An old revision that has become the present one again, and its new number."""
    forget: tuple[Obj, ...] = ()


def history(owner: Obj, revisions: Sequence[Obj], in_use: frozenset[str]) -> History:
    """Compare `revisions` with the present template; those whose hash is `in_use` by a pod are kept."""
    template = owner["spec"]["template"]
    collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
    current = template_hash(template, collisions)
    latest = max((int(found["revision"]) for found in revisions), default=0)
    present = next((found for found in revisions if _hash(found) == current), None)
    others = sorted((found for found in revisions if found is not present), key=lambda found: int(found["revision"]))
    limit = int(owner["spec"].get("revisionHistoryLimit", 10))
    unused = [found for found in others if _hash(found) not in in_use]
    forget = tuple(unused[: max(0, len(unused) - limit)])
    if present is None:
        return History(current, create=_revision(owner, current, latest + 1), forget=forget)
    if int(present["revision"]) < latest:
        return History(current, renumber=(present, latest + 1), forget=forget)
    return History(current, forget=forget)


def _revision(owner: Obj, current: str, number: int) -> Obj:
    metadata = owner["metadata"]
    labels = (owner["spec"]["template"].get("metadata") or {}).get("labels") or {}
    template = {**deepcopy(owner["spec"]["template"]), "$patch": "replace"}
    return {
        "kind": "ControllerRevision",
        "apiVersion": "apps/v1",
        "metadata": {
            "name": f"{metadata['name']}-{current}",
            "namespace": metadata["namespace"],
            "labels": {**labels, HASH_LABEL: current},
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": [controller_reference(owner)],
        },
        "data": {"spec": {"template": template}},
        "revision": number,
    }


def _hash(revision: Obj) -> str:
    labels = revision["metadata"].get("labels") or {}
    return str(labels.get(HASH_LABEL, ""))

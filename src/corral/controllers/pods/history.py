"""The templates that a DaemonSet or StatefulSet has had, as ControllerRevisions, for `kubectl rollout undo`. Pure.

A revision is known by its template. Its name is the owner's with a hash, and owners of two kinds may share a name: who
finds the name taken counts a collision in its status, which gives another hash (as Kubernetes does).
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from corral.controllers.deployments.revisions import alike, template_hash
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
    latest = max((int(found["revision"]) for found in revisions), default=0)
    template = owner["spec"]["template"]
    present = next((found for found in revisions if alike(template_of(found), template)), None)
    current = template_hash(template, collisions(owner)) if present is None else _hash(present)
    others = sorted((found for found in revisions if found is not present), key=lambda found: int(found["revision"]))
    limit = int(owner["spec"].get("revisionHistoryLimit", 10))
    unused = [found for found in others if _hash(found) not in in_use]
    forget = tuple(unused[: max(0, len(unused) - limit)])
    if present is None:
        return History(current, create=_revision(owner, current, latest + 1), forget=forget)
    if int(present["revision"]) < latest:
        return History(current, renumber=(present, latest + 1), forget=forget)
    return History(current, forget=forget)


def collisions(owner: Obj) -> int:
    """How often the name of a revision turned out to be taken."""
    return int((owner.get("status") or {}).get("collisionCount") or 0)


def template_of(revision: Obj) -> Obj:
    """The template that a revision keeps."""
    spec = (revision.get("data") or {}).get("spec") or {}
    return {name: value for name, value in (spec.get("template") or {}).items() if name != "$patch"}


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

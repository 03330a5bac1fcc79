"""A Deployment's ReplicaSets: which is the current one, how it is made, which revision each is. Pure."""

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import orjson

from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
    }
)
_FALSE_IS_ABSENT = frozenset({"stdin", "stdinOnce", "tty", "hostNetwork", "hostPID", "hostIPC", "readOnly"})
"""The booleans of a pod template that Kubernetes' own types cannot tell from absent."""
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Without vowels, so that no hash spells a word (Kubernetes' SafeEncodeString)."""
_HASH_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Revisions:
    """A Deployment's ReplicaSets: the one with its current template, if there is one, and the others by age."""

    new: Obj | None
    old: tuple[Obj, ...]

    @property
    def all(self) -> tuple[Obj, ...]:
        return self.old if self.new is None else (*self.old, self.new)


def template_hash(template: Obj, collisions: int) -> str:
    """A stable name for a template; `collisions` changes it when the name turned out to be taken."""
    text = orjson.dumps([_comparable(template), collisions], option=orjson.OPT_SORT_KEYS)
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    letters = []
    for _ in range(_HASH_LENGTH):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def sort_out(deployment: Obj, sets: Sequence[Obj]) -> Revisions:
    """Find the ReplicaSet that has the Deployment's template; of several, the oldest."""
    aged = sorted(sets, key=_age)
    new = next((found for found in aged if same_template(deployment, found)), None)
    return Revisions(new, tuple(found for found in aged if found is not new))


def same_template(deployment: Obj, replica_set: Obj) -> bool:
    """Whether `replica_set` was made of the Deployment's current template."""
    return alike(replica_set["spec"]["template"], deployment["spec"]["template"])


def alike(template: Obj, other: Obj) -> bool:
    """Whether two templates say the same."""
    return _comparable(template) == _comparable(other)


def revision_of(obj: Obj) -> int:
    """The revision in the annotations of a Deployment or ReplicaSet; 0 if none."""
    try:
        return int((obj["metadata"].get("annotations") or {}).get(REVISION) or 0)
    except ValueError:
        return 0


def next_revision(revisions: Revisions) -> int:
    """The revision that the current template has: one above all others."""
    return max((revision_of(old) for old in revisions.old), default=0) + 1


def new_replica_set(deployment: Obj, *, replicas: int, revision: int, maximum: int) -> Obj:
    """The ReplicaSet of the Deployment's current template."""
    spec = deployment["spec"]
    collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
    name = template_hash(spec["template"], collisions)
    template = deepcopy(spec["template"])
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels[HASH_LABEL] = name
    selector = deepcopy(spec["selector"])
    selector.setdefault("matchLabels", {})[HASH_LABEL] = name
    made: Obj = {
        "kind": "ReplicaSet",
        "apiVersion": "apps/v1",
        "metadata": {
            "name": f"{deployment['metadata']['name']}-{name}",
            "namespace": deployment["metadata"]["namespace"],
            "labels": dict(labels),
            "annotations": {
                **_copied(deployment),
                REVISION: str(revision),
                **size_annotations(wanted_replicas(deployment), maximum),
            },
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    return made


def refreshed(deployment: Obj, new: Obj, revision: int) -> dict[str, Any]:
    """The merge patch that brings an existing current ReplicaSet up to date; empty if it is.

    A rollback finds the ReplicaSet of the old template again: it gets the next revision, and its former one goes into
    the history annotation.
    """
    annotations = new["metadata"].get("annotations") or {}
    changed = {name: value for name, value in _copied(deployment).items() if annotations.get(name) != value}
    before = revision_of(new)
    if before < revision:
        changed[REVISION] = str(revision)
        if before:
            history = annotations.get(REVISION_HISTORY)
            changed[REVISION_HISTORY] = f"{history},{before}" if history else str(before)
    patch: dict[str, Any] = {"metadata": {"annotations": changed}} if changed else {}
    seconds = int(deployment["spec"].get("minReadySeconds") or 0)
    if int(new["spec"].get("minReadySeconds") or 0) != seconds:
        patch["spec"] = {"minReadySeconds": seconds}
    return patch


def size_annotations(desired: int, maximum: int) -> dict[str, str]:
    """What a ReplicaSet remembers of the Deployment's size, for scaling in proportion later."""
    return {DESIRED: str(desired), MAXIMUM: str(maximum)}


def surplus(deployment: Obj, revisions: Revisions) -> tuple[Obj, ...]:
    """Old ReplicaSets beyond `spec.revisionHistoryLimit`, lowest revisions first, that hold no pods."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None:
        return ()
    kept = [old for old in revisions.old if not old["metadata"].get("deletionTimestamp")]
    excess = len(kept) - int(limit)
    candidates = sorted(kept, key=revision_of)[: max(0, excess)]
    return tuple(old for old in candidates if _is_empty(old))


def wanted_replicas(obj: Obj) -> int:
    """`spec.replicas` of a Deployment or ReplicaSet; 1 if absent."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _is_empty(replica_set: Obj) -> bool:
    status = replica_set.get("status") or {}
    observed = int(status.get("observedGeneration") or 0)
    up_to_date = observed >= int(replica_set["metadata"].get("generation") or 0)
    return wanted_replicas(replica_set) == 0 and not status.get("replicas") and up_to_date


def _copied(deployment: Obj) -> dict[str, str]:
    annotations = deployment["metadata"].get("annotations") or {}
    return {name: value for name, value in annotations.items() if name not in _NOT_COPIED}


def _age(obj: Obj) -> tuple[str, str]:
    return (obj["metadata"].get("creationTimestamp") or "", obj["metadata"]["name"])


def _comparable(template: Obj) -> Obj:
    """A template without the hash label, and without what says nothing.

    Clients that speak a typed format write `tty: false` where others write nothing; a rollback through such a client
    must find the same template again.
    """
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    told = {name: value for name, value in {**metadata, "labels": labels}.items() if value}
    made: Obj = _telling({**template, "metadata": told})
    return made


def _telling(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _telling(inner)
            for name, inner in value.items()
            if inner is not None and not (inner is False and name in _FALSE_IS_ABSENT)
        }
    return [_telling(inner) for inner in value] if isinstance(value, list) else value

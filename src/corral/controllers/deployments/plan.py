"""What a Deployment needs next. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from corral.controllers.deployments.revisions import (
    Revisions,
    new_replica_set,
    next_revision,
    refreshed,
    revision_of,
    size_annotations,
    sort_out,
    surplus,
    wanted_replicas,
)
from corral.controllers.deployments.sizes import first_size, is_resized, maximum, resize, rolling_step
from corral.controllers.deployments.status import deadline_in, is_complete, status
from corral.controllers.pods.pods import is_deleting
from corral.kinds.podspec import is_terminal
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Scale:
    """Set a ReplicaSet to `replicas` (from `before`), and note in it what the Deployment wanted."""

    replica_set: Obj
    before: int
    replicas: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Performed in the order of the fields."""

    status: Obj
    revision: int = 0
    """What the Deployment's revision annotation should become; 0: leave it."""
    create: Obj | None = None
    refresh: Mapping[str, Any] = field(default_factory=dict)
    """A merge patch for the current ReplicaSet."""
    scale: tuple[Scale, ...] = ()
    delete: tuple[Obj, ...] = ()
    look_again: float | None = None


def plan(deployment: Obj, sets: Sequence[Obj], pods: Sequence[Obj], now: datetime) -> Plan:
    """The next step, given the ReplicaSets that the Deployment holds and their pods."""
    revisions = sort_out(deployment, sets)
    made = status(deployment, revisions, now)
    if is_deleting(deployment):
        return Plan(made)
    look_again = deadline_in(deployment, made, now)
    if deployment["spec"].get("paused") or is_resized(deployment, revisions):
        return Plan(made, scale=_scales(deployment, revisions, resize(deployment, revisions)), look_again=look_again)
    recreate = (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"
    if recreate and (stopping := _stop_old(deployment, revisions, pods)) is not None:
        return Plan(made, scale=stopping, look_again=look_again)
    revision = next_revision(revisions)
    if revisions.new is None:
        created = new_replica_set(
            deployment, replicas=first_size(deployment, revisions), revision=revision, maximum=maximum(deployment)
        )
        return Plan(made, _changed(deployment, revision), created, look_again=look_again)
    revision = max(revision, revision_of(revisions.new))
    scale = _scales(deployment, revisions, rolling_step(deployment, revisions))
    return Plan(
        made,
        _changed(deployment, revision),
        refresh=refreshed(deployment, revisions.new, revision),
        scale=scale,
        delete=surplus(deployment, revisions) if is_complete(deployment, made) else (),
        look_again=look_again,
    )


def _changed(deployment: Obj, revision: int) -> int:
    return revision if revision_of(deployment) != revision else 0


def _stop_old(deployment: Obj, revisions: Revisions, pods: Sequence[Obj]) -> tuple[Scale, ...] | None:
    """What must happen before pods of the current template may start; None if nothing."""
    running = {old["metadata"]["name"]: 0 for old in revisions.old if wanted_replicas(old) > 0}
    if running:
        return _scales(deployment, revisions, running)
    old = {found["metadata"]["uid"] for found in revisions.old}
    for pod in pods:
        references = pod["metadata"].get("ownerReferences") or ()
        if not is_terminal(pod) and any(reference["uid"] in old for reference in references):
            return ()
    return None


def _scales(deployment: Obj, revisions: Revisions, sizes: Mapping[str, int]) -> tuple[Scale, ...]:
    annotations = size_annotations(wanted_replicas(deployment), maximum(deployment))
    scales = []
    for found in revisions.all:
        before = wanted_replicas(found)
        replicas = sizes.get(found["metadata"]["name"], before)
        noted = found["metadata"].get("annotations") or {}
        stale = replicas > 0 and any(noted.get(name) != value for name, value in annotations.items())
        if replicas != before or stale:
            scales.append(Scale(found, before, replicas, annotations))
    return tuple(scales)

"""What a StatefulSet needs next. Pure.

The rules are those of Kubernetes' StatefulSet controller. With `OrderedReady` one pod at a time is made, from the
lowest ordinal up, and none while a lower one is not available; surplus pods end one at a time from the highest down.
With `Parallel` neither waits. An update replaces pods from the highest ordinal down to the partition, at most
`maxUnavailable` of them being away at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.controllers.pods.pods import available_in, is_deleting
from corral.controllers.pods.shares import resolve
from corral.controllers.statefulsets.identity import Revision, ordinal_of, ordinals, revision_of
from corral.kinds.podspec import is_ready, is_terminal, phase
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordinals to `create` and from which revision, pods to `delete`, and the status."""

    status: Obj
    create: tuple[tuple[int, Revision], ...] = ()
    delete: tuple[Obj, ...] = ()
    look_again: float | None = None


@dataclass(frozen=True, slots=True)
class _Set:
    """The set as this step sees it."""

    obj: Obj
    wanted: range
    replicas: Mapping[int, Obj]
    """The pods of the wanted ordinals that there are."""
    condemned: Sequence[tuple[int, Obj]]
    """The pods that are too many, highest ordinal first."""
    now: datetime

    @property
    def ordered(self) -> bool:
        return bool(self.obj["spec"].get("podManagementPolicy") != "Parallel")

    @property
    def rolling(self) -> Obj | None:
        """How updates roll; None if pods are replaced only when someone deletes them."""
        strategy = self.obj["spec"].get("updateStrategy") or {}
        return (strategy.get("rollingUpdate") or {}) if strategy.get("type") != "OnDelete" else None

    def is_available(self, pod: Obj) -> bool:
        seconds = int(self.obj["spec"].get("minReadySeconds") or 0)
        return _is_healthy(pod) and available_in(pod, seconds, self.now) == 0.0


def plan(stateful_set: Obj, pods: Sequence[Obj], current: Revision, update: Revision, now: datetime) -> Plan:
    """The next step.

    Args:
        pods: all pods that the set holds.
        current: what pods below the partition are made from.
        update: the present template.
    """
    view = _view(stateful_set, pods, now)
    create: list[tuple[int, Revision]] = []
    delete: list[Obj] = []
    if not is_deleting(stateful_set):
        settled = _scale(view, current, update, create, delete)
        if settled or not view.ordered:
            delete += [pod for pod in _outdated(view, update) if pod not in delete]
    seconds = int(stateful_set["spec"].get("minReadySeconds") or 0)
    waits = [wait for pod in pods if (wait := available_in(pod, seconds, now))]
    return Plan(_status(view, pods, current, update), tuple(create), tuple(delete), min(waits, default=None))


def _view(stateful_set: Obj, pods: Sequence[Obj], now: datetime) -> _Set:
    wanted = ordinals(stateful_set)
    numbered = sorted(
        ((ordinal, pod) for pod in pods if (ordinal := ordinal_of(stateful_set, pod)) is not None),
        key=lambda item: -item[0],
    )
    replicas = {ordinal: pod for ordinal, pod in numbered if ordinal in wanted}
    return _Set(stateful_set, wanted, replicas, [item for item in numbered if item[0] not in wanted], now)


def _is_healthy(pod: Obj) -> bool:
    return phase(pod) == "Running" and is_ready(pod) and not is_deleting(pod)


def _scale(
    view: _Set, current: Revision, update: Revision, create: list[tuple[int, Revision]], delete: list[Obj]
) -> bool:
    """Fill in what there are too few or too many of; whether nothing is left to do or to wait for."""
    for ordinal in view.wanted:
        pod = view.replicas.get(ordinal)
        if pod is None:
            create.append((ordinal, _revision_for(view, ordinal, current, update)))
        elif is_terminal(pod) and not is_deleting(pod):
            delete.append(pod)
        if view.ordered and (pod is None or not view.is_available(pod)):
            return False
    broken = _first_broken(view)
    for _, pod in view.condemned:
        # One that has ended will not come back, so that there is nothing to wait for (Kubernetes waits for ever).
        if not is_deleting(pod) and (not view.ordered or _is_healthy(pod) or pod is broken or is_terminal(pod)):
            delete.append(pod)
        if view.ordered:
            return False
    return not create and not delete


def _first_broken(view: _Set) -> Obj | None:
    """The surplus pod of the lowest ordinal that does not work: it may go although it does not."""
    return next((pod for _, pod in reversed(view.condemned) if not _is_healthy(pod)), None)


def _revision_for(view: _Set, ordinal: int, current: Revision, update: Revision) -> Revision:
    rolling = view.rolling
    if rolling is None:
        return update
    return current if ordinal < view.wanted.start + int(rolling.get("partition") or 0) else update


def _outdated(view: _Set, update: Revision) -> list[Obj]:
    """Pods of former revisions to replace now."""
    rolling = view.rolling
    if rolling is None:
        return []
    limit = max(1, resolve(rolling.get("maxUnavailable") or 1, len(view.wanted), up=True))
    away = sum(ordinal not in view.replicas or not _is_healthy(view.replicas[ordinal]) for ordinal in view.wanted)
    found: list[Obj] = []
    for ordinal in reversed(view.wanted[int(rolling.get("partition") or 0) :]):
        pod = view.replicas.get(ordinal)
        if pod is None or is_deleting(pod) or revision_of(pod) == update.name:
            continue
        healthy = _is_healthy(pod)
        if healthy and away >= limit:
            break
        away += healthy
        found.append(pod)
    return found


def _status(view: _Set, pods: Sequence[Obj], current: Revision, update: Revision) -> Obj:
    before = view.obj.get("status") or {}
    living = [pod for pod in pods if not is_deleting(pod)]
    updated = sum(revision_of(pod) == update.name for pod in living)
    ready = sum(phase(pod) == "Running" and is_ready(pod) for pod in pods)
    replicas = len(view.wanted)
    done = view.rolling is not None and updated == replicas == ready == len(pods)
    if done:
        current = update
    status: Obj = {
        "observedGeneration": view.obj["metadata"].get("generation", 0),
        "replicas": len(pods),
        "readyReplicas": ready,
        "availableReplicas": sum(view.is_available(pod) for pod in pods),
        "currentReplicas": sum(revision_of(pod) == current.name for pod in living),
        "updatedReplicas": updated,
        "currentRevision": current.name,
        "updateRevision": update.name,
        "collisionCount": int(before.get("collisionCount") or 0),
    }
    # As Kubernetes writes it: counts of zero are absent, but for these two.
    return {name: value for name, value in status.items() if value or name in ("replicas", "availableReplicas")} | {
        "collisionCount": status["collisionCount"]
    }

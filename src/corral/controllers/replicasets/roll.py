"""The pods of each ReplicaSet, sorted by all that it counts and claims them by.

Pods of one template are mostly alike. Kept sorted as they change, those of a ReplicaSet of ten thousand are counted
by a look at a handful of sorts, though each pod that becomes ready asks for a new count.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from corral.client.informer import Event, Informer
from corral.controllers.pods.pods import is_deleting, name_in
from corral.kinds.owners import controller_of
from corral.kinds.podspec import is_ready, is_terminal
from corral.kinds.resources import REPLICA_SETS
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj, key_of


class Standing(NamedTuple):
    """What counts about a pod."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    ended: bool
    leaving: bool
    ready: bool


Roll: TypeAlias = Mapping[Standing, Mapping[Key, Obj]]
"""Pods by their standing."""


def standing(pod: Obj) -> Standing:
    """The pod's."""
    metadata = pod["metadata"]
    labels = frozenset((metadata.get("labels") or {}).items())
    return Standing(metadata.get("namespace", ""), labels, is_terminal(pod), is_deleting(pod), is_ready(pod))


def sorted_out(pods: Iterable[Obj]) -> dict[Standing, dict[Key, Obj]]:
    """The roll of `pods`."""
    roll: dict[Standing, dict[Key, Obj]] = {}
    for pod in pods:
        roll.setdefault(standing(pod), {})[key_of(pod)] = pod
    return roll


def divide(owner: Obj, selector: LabelSelector, roll: Roll) -> tuple[dict[Standing, Mapping[Key, Obj]], list[Obj]]:
    """Which of an owner's pods it holds without further ado, and the others, whose labels it does not select."""
    anything = is_deleting(owner) or selector.nothing
    held: dict[Standing, Mapping[Key, Obj]] = {}
    others: list[Obj] = []
    for sort, pods in roll.items():
        if sort.namespace == owner["metadata"].get("namespace"):
            if anything or selector.matches(dict(sort.labels)):
                held[sort] = pods
            else:
                others += pods.values()
    return held, others


class Rolls:
    """The rolls of all ReplicaSets, by their uid."""

    def __init__(self, pods: Informer) -> None:
        self._rolls: dict[str, dict[Standing, dict[Key, Obj]]] = {}
        self._places: dict[Key, tuple[str, Standing]] = {}
        pods.on_event(self._note)

    def of(self, uid: str) -> Roll:
        """The pods that name this one as their controller: a view that changes with them."""
        return self._rolls.get(uid, {})

    def _note(self, event: Event) -> None:
        place = self._places.pop(event.key, None)
        if place is not None:
            self._strike(event.key, *place)
        pod = event.new
        reference = controller_of(pod) if pod is not None else None
        if pod is not None and reference is not None and name_in(reference, REPLICA_SETS):
            uid, sort = self._places[event.key] = reference["uid"], standing(pod)
            self._rolls.setdefault(uid, {}).setdefault(sort, {})[event.key] = pod

    def _strike(self, key: Key, uid: str, sort: Standing) -> None:
        roll = self._rolls[uid]
        del roll[sort][key]
        if not roll[sort]:
            del roll[sort]
        if not roll:
            del self._rolls[uid]

"""Pods that wait in a simulated cell: new ones, and refused ones by class. Pure.

Those of one class are refused alike, so that of thousands only as many are looked at again as could find room.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Pending
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import Order
from corral.scheduler.scores import NEVER


class Backlog:
    """What waits.

    Args:
        gang_of: the gang of each pod that is in one; its members are looked at together.
        order: who is decided first.
    """

    def __init__(self, gang_of: Mapping[Key, GangKey], order: Order) -> None:
        self._order = order
        self._gang_of = gang_of
        self._pods: dict[Key, Pending] = {}
        self._new: dict[Key, None] = {}
        self._refused: dict[PodClass, dict[Key, None]] = {}
        self._gangs: dict[GangKey, dict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._pods.values())

    def add(self, pod: Pending) -> None:
        """A pod wants a machine."""
        self._pods[pod.key] = pod
        self._new[pod.key] = None
        if pod.key in self._gang_of:
            self._gangs.setdefault(self._gang_of[pod.key], {})[pod.key] = None

    def refuse(self, key: Key) -> None:
        """No machine took the pod."""
        self._new.pop(key, None)
        self._refused.setdefault(self._pods[key].pod_class, {})[key] = None

    def discard(self, key: Key) -> None:
        """The pod has a machine."""
        pod = self._pods.pop(key)
        self._new.pop(key, None)
        alike = self._refused.get(pod.pod_class, {})
        alike.pop(key, None)
        if not alike:
            self._refused.pop(pod.pod_class, None)
        if key in self._gang_of:
            del self._gangs[self._gang_of[key]][key]

    def take_all(self) -> list[Pending]:
        """Empty it."""
        pods = list(self._pods.values())
        for held in (self._pods, self._new, self._refused, self._gangs):
            held.clear()
        return pods

    def worth_a_look(self, cache: CandidateCache, *, freed: bool) -> list[Pending]:
        """What is new, what room is kept for, and, if room became `free` or a pod was placed that others seek, as many
        of each refused class as could find room; in the order of deciding."""
        found = dict.fromkeys(self._new)
        found |= dict.fromkeys(key for key in cache.snapshot.nominations if key in self._pods)
        for pod_class, keys in self._refused.items():
            if freed or pod_class.peers.gains_by_others:
                found |= dict.fromkeys(self._first(keys, _room(cache, pod_class)))
        for gang in {self._gang_of[key] for key in found if key in self._gang_of}:
            found |= self._gangs[gang]
        return sorted((self._pods[key] for key in found), key=self._rank)

    def _first(self, keys: Iterable[Key], count: int) -> Iterable[Key]:
        if not count:
            return ()
        return [pod.key for pod in sorted((self._pods[key] for key in keys), key=self._rank)[:count]]

    def _rank(self, pod: Pending) -> tuple[tuple[float, ...], Key]:
        return self._order(pod), pod.key


def _room(cache: CandidateCache, pod: PodClass) -> int:
    """At most how many such pods the machines that would take one have room for."""
    snapshot = cache.snapshot
    rows = np.flatnonzero(cache.totals(pod) > NEVER)
    if not len(rows):
        return 0
    free = snapshot.allocatable[rows][:, pod.columns] - snapshot.requested[rows][:, pod.columns]
    return int(np.maximum((free // pod.amounts).min(axis=1), 1).sum())

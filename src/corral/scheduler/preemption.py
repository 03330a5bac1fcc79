"""Room for a more important pod: which pods must go, on which machine. Pure.

The search is kube-scheduler's: on a machine, all less important pods are thought away; if the pod fits then, they come
back one by one, the most important first, as long as it still fits, and those left over are the victims. The machine
taken is the one that breaks the fewest disruption budgets, then whose most important victim is least important, then by
the sum of priorities and the number of victims. Where to look at all is decided for all machines at once, from what the
pods of each priority take in sum, beginning with the least important.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key
from corral.scheduler.filters import Filter
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import Profile
from corral.scheduler.snapshot import Snapshot

# So many machines that would do are compared (kube-scheduler's minCandidateNodesAbsolute), and so many tried at most.
_COMPARED = 100
_TRIED = 1000

# Borg's rule (EuroSys'15, section 2.5) that keeps cascades away: within this band nothing preempts anything.
PRODUCTION = range(200_000_000, 300_000_000)


def may_preempt(priority: int, other: int) -> bool:
    """Whether a pod of `priority` may push out one of priority `other`."""
    return other < priority and not (priority in PRODUCTION and other in PRODUCTION)


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget: `allowed` of the pods it chooses may be disrupted now."""

    namespace: str
    selector: LabelSelector
    allowed: int

    def covers(self, key: Key, pod: PodClass) -> bool:
        """Whether the pod is one of them."""
        return self.namespace == key.namespace and self.selector.matches(pod.peers.labels)


@dataclass(frozen=True, slots=True)
class Victims:
    """What must go from `node`: pods that are there, and nominations of pods that are not there yet."""

    node: str
    pods: tuple[Key, ...]
    nominations: tuple[Key, ...]


_Placed: TypeAlias = tuple[Key, PodClass]
_Choice: TypeAlias = Callable[[Snapshot, PodClass, int, Sequence[_Placed]], list[_Placed]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: int
    keys: tuple[Key, ...]
    cost: tuple[int, int, int, int, str]
    """Broken budgets, highest priority, sum of weights, number, name: less is better."""


def find_victims(snapshot: Snapshot, pod: PodClass, budgets: Sequence[Budget], profile: Profile) -> Victims | None:
    """The least that must go so that `pod` fits somewhere; None if nothing less important could help, or if it would
    rather wait. The snapshot is left as it was found."""
    if not pod.peers.preempts:
        return None
    best: _Candidate | None = None
    tried = compared = 0
    # Where no other rule has a say, room is a matter of sums: no need to try with all rules.
    others = (*profile.row_filters, *profile.peer_filters)
    summable = all(rule.passes(snapshot, pod) is None for rule in others)
    choose = _by_sums if summable else partial(_by_trial, rules=profile.filters[::-1])
    for level, rows in _promising(snapshot, pod, profile):
        for row in rows[: _TRIED - tried]:
            found = _try_row(snapshot, pod, int(row), budgets, choose)
            tried += 1
            compared += found is not None
            if found is not None and (best is None or found.cost < best.cost):
                best = found
            if compared == _COMPARED or (best is not None and best.cost[:4] == (0, level, _weight(level), 1)):
                break
        if tried == _TRIED or compared == _COMPARED or (best is not None and not best.cost[0]):
            break
    if best is None:
        return None
    nominations = tuple(key for key in best.keys if key in snapshot.nominations)
    pods = tuple(key for key in best.keys if key not in snapshot.nominations)
    return Victims(snapshot.machine(best.row).name, pods, nominations)


def waits_for_victims(snapshot: Snapshot, pod: PodClass, node: str) -> bool:
    """Whether less important pods are ending on `node` already, so that there is no need to choose more."""
    row = snapshot.row(node)
    return row is not None and any(
        other.peers.terminating and may_preempt(pod.peers.priority, other.peers.priority)
        for _, other in snapshot.pods(row)
    )


def spend(budgets: Sequence[Budget], gone: Iterable[_Placed]) -> Sequence[Budget]:
    """What the budgets allow after those pods went."""
    left = list(budgets)
    for key, pod in gone:
        for number, budget in enumerate(left):
            if budget.covers(key, pod):
                left[number] = replace(budget, allowed=budget.allowed - 1)
    return left


class Eviction:
    """Victims that are thought away from a snapshot for a while."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._before: dict[str, list[_Placed]] = {}
        """By machine, all that were there."""
        self._pods: set[Key] = set()
        self._nominations: set[Key] = set()

    def add(self, victims: Victims) -> None:
        """Take the victims out."""
        row = self._snapshot.row(victims.node)
        if row is not None:
            self._before.setdefault(victims.node, self._snapshot.pods(row))
        for key in (*victims.pods, *victims.nominations):
            self._snapshot.remove(key)
        self._pods.update(victims.pods)
        self._nominations.update(victims.nominations)

    def postpone(self) -> None:
        """The pods are back until they have ended; the nominations are gone for good."""
        self._put_back(self._pods)

    def undo(self) -> None:
        """All are back."""
        self._put_back(self._pods | self._nominations)

    def _put_back(self, keys: Set[Key]) -> None:
        for node, before in self._before.items():
            # All of the machine's, so that who was placed first is again first.
            there = [(key, pod) for key, pod in before if key in keys or self._snapshot.node_of(key) == node]
            nominated = {key for key, _ in there if key in self._nominations or key in self._snapshot.nominations}
            for key, pod in there:
                self._snapshot.remove(key)
                (self._snapshot.nominate if key in nominated else self._snapshot.place)(key, pod, node)


def _promising(snapshot: Snapshot, pod: PodClass, profile: Profile) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """For one priority after the other, rows that have enough in sum if the pods up to it go."""
    levels = sorted(level for level in snapshot.by_priority if may_preempt(pod.peers.priority, level))
    if not levels:
        return
    unseen = snapshot.alive.copy()
    for rule in profile.shape_filters:
        mask = rule.passes(snapshot, pod)
        if mask is not None:
            unseen &= mask
    free = snapshot.allocatable - snapshot.requested
    for level in levels:
        free = free + snapshot.by_priority[level]
        fits = unseen & np.logical_and.reduce(free[:, pod.columns] >= pod.amounts, axis=1)
        fits &= snapshot.by_priority[level].any(axis=1)
        yield level, np.flatnonzero(fits)
        unseen &= ~fits


def _weight(priority: int) -> int:
    # As in kube-scheduler: never negative, so that each further victim makes the sum worse.
    return priority + 2**31


def _try_row(
    snapshot: Snapshot, pod: PodClass, row: int, budgets: Sequence[Budget], choose: _Choice
) -> _Candidate | None:
    there = [item for item in snapshot.pods(row) if may_preempt(pod.peers.priority, item[1].peers.priority)]
    breaking = _breaking(there, budgets)
    # Sorting is stable: among equals, who was placed first stays rather.
    ranked = sorted(there, key=lambda item: (item[0] not in breaking, -item[1].peers.priority))
    victims = choose(snapshot, pod, row, ranked)
    if not victims:
        return None
    priorities = [other.peers.priority for _, other in victims]
    broken = sum(key in breaking for key, _ in victims)
    weight, name = sum(map(_weight, priorities)), snapshot.machine(row).name
    return _Candidate(row, tuple(key for key, _ in victims), (broken, max(priorities), weight, len(victims), name))


def _by_sums(snapshot: Snapshot, pod: PodClass, row: int, ranked: Sequence[_Placed]) -> list[_Placed]:
    """Who of `ranked`, whose first should stay rather, must go; nobody if that does not help."""
    columns = [snapshot.columns[name] for name in pod.requests]
    spare = (snapshot.allocatable[row, columns] - snapshot.requested[row, columns] - pod.amounts).tolist()
    taken = [[other.requests.get(name, 0) for name in pod.requests] for _, other in ranked]
    spare = [free + sum(column) for free, column in zip(spare, zip(*taken, strict=True), strict=True)]
    victims: list[_Placed] = []
    if min(spare) < 0:
        return victims
    for item, amounts in zip(ranked, taken, strict=True):
        left = [free - amount for free, amount in zip(spare, amounts, strict=True)]
        if min(left) >= 0:
            spare = left
        else:
            victims.append(item)
    return victims


def _by_trial(
    snapshot: Snapshot, pod: PodClass, row: int, ranked: Sequence[_Placed], rules: Sequence[Filter]
) -> list[_Placed]:
    """`_by_sums` for any rules: pods are taken out of the snapshot, and all put back in the end."""
    node, before = snapshot.machine(row).name, snapshot.pods(row)
    nominated = {key for key, _ in ranked if key in snapshot.nominations}
    for key, _ in ranked:
        snapshot.remove(key)
    victims: list[_Placed] = []
    if _fits(snapshot, pod, row, rules):
        for key, other in ranked:
            snapshot.place(key, other, node)
            if not _fits(snapshot, pod, row, rules):
                snapshot.remove(key)
                victims.append((key, other))
    moved = {key for key, _ in ranked}
    for key, other in before:
        if key in moved:
            snapshot.remove(key)
            (snapshot.nominate if key in nominated else snapshot.place)(key, other, node)
    return victims


def _fits(snapshot: Snapshot, pod: PodClass, row: int, rules: Sequence[Filter]) -> bool:
    return not any(rule.explain(snapshot, pod, row) for rule in rules)


def _breaking(there: Sequence[tuple[Key, PodClass]], budgets: Sequence[Budget]) -> set[Key]:
    """Those whose going a budget does not allow, if all of `there` go, the most important first."""
    allowed = [budget.allowed for budget in budgets]
    found: set[Key] = set()
    for key, other in sorted(there, key=lambda item: -item[1].peers.priority):
        for number, budget in enumerate(budgets):
            if budget.covers(key, other):
                allowed[number] -= 1
                if allowed[number] < 0:
                    found.add(key)
    return found

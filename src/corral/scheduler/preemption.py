"""Room for a more important pod: which pods must go, on which machine. Pure.

The search is kube-scheduler's: on a machine, all less important pods are thought away; if the pod fits then, they come
back one by one, the most important first, as long as it still fits, and those left over are the victims. The machine
taken is the one that breaks the fewest disruption budgets, then whose most important victim is least important, then by
the sum of priorities and the number of victims. Where to look at all is decided for all machines at once, from what the
pods of each priority take in sum, beginning with the least important.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import FILTERS, SHAPE_FILTERS
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


@dataclass(frozen=True, slots=True)
class Victims:
    """What must go from `node`: pods that are there, and nominations of pods that are not there yet."""

    node: str
    pods: tuple[Key, ...]
    nominations: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    row: int
    keys: tuple[Key, ...]
    cost: tuple[int, int, int, int, str]
    """Broken budgets, highest priority, sum of priorities, number, name: less is better."""


def find_victims(snapshot: Snapshot, pod: PodClass, budgets: Sequence[Budget]) -> Victims | None:
    """The least that must go so that `pod` fits somewhere; None if nothing less important could help. The snapshot is
    left as it was found."""
    found: list[_Candidate] = []
    tried = 0
    for rows in _promising(snapshot, pod):
        for row in rows[: _TRIED - tried]:
            candidate = _try_row(snapshot, pod, int(row), budgets)
            found += [] if candidate is None else [candidate]
            tried += 1
            if len(found) == _COMPARED:
                break
        if tried == _TRIED or len(found) == _COMPARED or any(not candidate.cost[0] for candidate in found):
            break
    if not found:
        return None
    best = min(found, key=lambda candidate: candidate.cost)
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


def _promising(snapshot: Snapshot, pod: PodClass) -> Iterator[NDArray[np.intp]]:
    """Rows that have enough in sum if pods up to some priority go, for one priority after the other."""
    levels = sorted(level for level in snapshot.by_priority if may_preempt(pod.peers.priority, level))
    if not levels:
        return
    unseen = snapshot.alive.copy()
    for rule in SHAPE_FILTERS:
        mask = rule.passes(snapshot, pod)
        if mask is not None:
            unseen &= mask
    free = snapshot.allocatable - snapshot.requested
    for level in levels:
        free = free + snapshot.by_priority[level]
        fits = unseen & np.logical_and.reduce(free[:, pod.columns] >= pod.amounts, axis=1)
        fits &= snapshot.by_priority[level].any(axis=1)
        yield np.flatnonzero(fits)
        unseen &= ~fits


def _try_row(snapshot: Snapshot, pod: PodClass, row: int, budgets: Sequence[Budget]) -> _Candidate | None:
    there = [(key, other) for key, other in snapshot.pods(row) if may_preempt(pod.peers.priority, other.peers.priority)]
    node, nominated = snapshot.machine(row).name, {key for key, _ in there if key in snapshot.nominations}
    for key, _ in there:
        snapshot.remove(key)
    victims: list[tuple[Key, PodClass]] = []
    possible = _fits(snapshot, pod, row)
    breaking = _breaking(there, budgets) if possible else set()
    # Sorting is stable: among equals, who was placed first stays rather.
    for key, other in sorted(there, key=lambda item: (item[0] not in breaking, -item[1].peers.priority)):
        if not possible:
            break
        snapshot.place(key, other, node)
        if not _fits(snapshot, pod, row):
            snapshot.remove(key)
            victims.append((key, other))
    for key, other in there:
        snapshot.remove(key)
        (snapshot.nominate if key in nominated else snapshot.place)(key, other, node)
    if not possible or not victims:
        return None
    priorities = [other.peers.priority for _, other in victims]
    broken = sum(key in breaking for key, _ in victims)
    cost = broken, max(priorities), sum(priorities), len(victims), node
    return _Candidate(row, tuple(key for key, _ in victims), cost)


def _fits(snapshot: Snapshot, pod: PodClass, row: int) -> bool:
    return not any(rule.explain(snapshot, pod, row) for rule in reversed(FILTERS))


def _breaking(there: Sequence[tuple[Key, PodClass]], budgets: Sequence[Budget]) -> set[Key]:
    """Those whose going a budget does not allow, if all of `there` go, the most important first."""
    allowed = [budget.allowed for budget in budgets]
    found: set[Key] = set()
    for key, other in sorted(there, key=lambda item: -item[1].peers.priority):
        for number, budget in enumerate(budgets):
            if budget.namespace == key.namespace and budget.selector.matches(other.peers.labels):
                allowed[number] -= 1
                if allowed[number] < 0:
                    found.add(key)
    return found

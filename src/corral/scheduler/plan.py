"""The decision: which pod goes where, and why the others go nowhere. Pure: the same input gives the same plan."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import numpy as np

from corral.kinds.types import Key
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import Budget, find_victims, waits_for_victims
from corral.scheduler.profile import SPREADING, Profile
from corral.scheduler.scores import NEVER
from corral.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod that waits for a machine."""

    key: Key
    pod_class: PodClass
    priority: int = 0
    order: int = 0
    """Among equal priorities the smaller comes first."""


@dataclass(frozen=True, slots=True)
class Bind:
    """The pod goes to `node`."""

    pod: Key
    node: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """The pod goes nowhere: of `machines` machines each reason refused so many."""

    pod: Key
    machines: int
    reasons: Mapping[str, int]

    @property
    def message(self) -> str:
        """What the event says, in kube-scheduler's words."""
        if not self.machines:
            return "no nodes available to schedule pods"
        texts = sorted(f"{count} {reason}" for reason, count in self.reasons.items())
        return f"0/{self.machines} nodes are available: {', '.join(texts)}."


@dataclass(frozen=True, slots=True)
class Preempt:
    """The pod goes to `node` once the victims are gone; until then it is refused."""

    pod: Key
    node: str
    victims: tuple[Key, ...]
    refusal: Refuse

    @property
    def message(self) -> str:
        """Why it cannot go there at once."""
        return self.refusal.message


Decision: TypeAlias = Bind | Refuse | Preempt


def plan(
    snapshot: Snapshot,
    pending: Sequence[Pending],
    now: datetime,
    rng: random.Random,
    *,
    profile: Profile = SPREADING,
    budgets: Sequence[Budget] = (),
) -> Sequence[Decision]:
    """Decide for every pending pod, highest priority first, then in order; the snapshot is left as it was found.

    Args:
        now: the moment of the plan, for rules that depend on time.
        rng: breaks ties between equally good machines.
        budgets: how many pods of which kind may be made to go.
    """
    nominated = [(key, snapshot.class_of(key), node) for key, node in snapshot.nominations.items()]
    decisions = assign(CandidateCache(snapshot, profile), pending, now, rng, budgets)
    for decision in decisions:
        snapshot.remove(decision.pod)
    for key, pod_class, node in nominated:
        snapshot.nominate(key, pod_class, node)
    return decisions


def assign(
    cache: CandidateCache,
    pending: Sequence[Pending],
    now: datetime,
    rng: random.Random,
    budgets: Sequence[Budget] = (),
) -> Sequence[Decision]:
    """`plan`, but the pods stay placed or nominated in the snapshot: how the live loop assumes what it decides."""
    decisions: list[Decision] = []
    refusals: dict[PodClass, tuple[int, Refuse]] = {}
    snapshot = cache.snapshot
    for pod in sorted(pending, key=_rank):
        nominated = snapshot.nominations.get(pod.key, "")
        if nominated:
            snapshot.remove(pod.key)
        node = _choose(cache, pod.pod_class, rng, nominated)
        if node:
            snapshot.place(pod.key, pod.pod_class, node)
            decisions.append(Bind(pod.key, node))
            continue
        known = _still_refused(snapshot, pod.pod_class, refusals)
        if known:
            refusal = Refuse(pod.key, known.machines, known.reasons)
        else:
            refusal = refuse(snapshot, pod.key, pod.pod_class, cache.profile)
        if nominated and waits_for_victims(snapshot, pod.pod_class, nominated):
            snapshot.nominate(pod.key, pod.pod_class, nominated)
            decisions.append(refusal)
            continue
        victims = None if known else find_victims(snapshot, pod.pod_class, budgets, cache.profile)
        if victims is None:
            refusals[pod.pod_class] = snapshot.used.end, refusal
            decisions.append(refusal)
            continue
        for key in victims.nominations:
            snapshot.remove(key)
        snapshot.nominate(pod.key, pod.pod_class, victims.node)
        decisions.append(Preempt(pod.key, victims.node, victims.pods, refusal))
    return decisions


def _still_refused(snapshot: Snapshot, pod: PodClass, refusals: Mapping[PodClass, tuple[int, Refuse]]) -> Refuse | None:
    """Why another pod of this class was refused in this plan, unless a pod placed since then can have changed that."""
    moment, known = refusals.get(pod, (0, None))
    return known if moment == snapshot.used.end or not pod.peers.gains_by_others else None


def _rank(pod: Pending) -> tuple[int, int, Key]:
    return -pod.priority, pod.order, pod.key


def _choose(cache: CandidateCache, pod: PodClass, rng: random.Random, preferred: str) -> str:
    """The best machine, or `preferred` if the pod fits there; empty if none takes it."""
    totals = cache.totals(pod)
    wanted = cache.snapshot.row(preferred) if preferred else None
    if wanted is not None and totals[wanted] > NEVER:
        return preferred
    best = totals[totals.argmax()]
    if best == NEVER:
        return ""
    ties = np.flatnonzero(totals == best)
    row = int(ties[0] if len(ties) == 1 else ties[rng.randrange(len(ties))])
    return cache.snapshot.machine(row).name


def refuse(snapshot: Snapshot, key: Key, pod: PodClass, profile: Profile) -> Refuse:
    """Why no machine takes the pod: per machine, the reasons of the first rule that refuses it."""
    reasons: Counter[str] = Counter()
    left = snapshot.alive.copy()
    for rule in profile.filters:
        mask = rule.passes(snapshot, pod)
        if mask is None:
            continue
        refused = np.flatnonzero(left & ~mask)
        if len(refused):
            reasons.update(rule.tally(snapshot, pod, refused))
            left &= mask
    return Refuse(key, len(snapshot), dict(reasons))

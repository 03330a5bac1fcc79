"""The decision: which pod goes where, and why the others go nowhere. Pure: the same input gives the same plan.

Pods are decided one after the other, the most important first; those of one gang together. A gang is tried on the
snapshot member by member: if enough of them find a machine they all stay there, otherwise each is taken out again, so
that no other pod ever sees half a gang. Room is made for a gang in the same way: for as many members as it needs, or
not at all.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import numpy as np

from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.futility import TERMINATING, futility
from corral.scheduler.gangs import Gang
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import Budget, Eviction, Victims, find_victims, spend, waits_for_victims
from corral.scheduler.profile import SPREADING, Profile
from corral.scheduler.scores.fragmentation import learn
from corral.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod that waits for a machine."""

    key: Key
    pod_class: PodClass
    priority: int = 0
    order: int = 0
    """Among equal priorities the smaller comes first."""
    gang: Gang | None = None
    """The group without which the pod goes nowhere, as it is now."""


@dataclass(frozen=True, slots=True)
class Bind:
    """The pod goes to `node`."""

    pod: Key
    node: str
    devices: tuple[int, ...] = ()
    """Which of its GPUs, if the pod asks for any."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The pod goes nowhere: of `machines` machines each reason refused so many."""

    pod: Key
    machines: int
    reasons: Mapping[str, int]
    group: str = ""
    """What the pod's gang lacks, if the pod belongs to one; the reasons are those of one of its members."""
    obstacle: str = ""
    """Why it could go nowhere whatever the machines, if so."""
    preemption: str = ""
    """Why it would not help to make others go, if that was looked at."""

    @property
    def message(self) -> str:
        """What the event says, in kube-scheduler's words."""
        return f"{self.summary} preemption: {self.preemption}" if self.machines and self.preemption else self.summary

    @property
    def summary(self) -> str:
        """The message without what it says of preemption."""
        text = "no nodes available to schedule pods"
        if self.machines and self.obstacle:
            text = f"0/{self.machines} nodes are available: {self.obstacle}."
        elif self.machines:
            reasons = sorted(f"{count} {reason}" for reason, count in self.reasons.items())
            text = f"0/{self.machines} nodes are available: {', '.join(reasons)}."
        return f"{self.group}: {text}" if self.group else text


@dataclass(frozen=True, slots=True)
class Wait:
    """The pod is not tried: its gang is not complete."""

    pod: Key
    message: str


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


_NOBODY: tuple[Key, ...] = ()
Decision: TypeAlias = Bind | Refuse | Preempt | Wait


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
    learn(cache.snapshot, (pod.pod_class for pod in pending))
    turn = _Turn(cache, rng, budgets)
    gangs: dict[GangKey, list[Pending]] = {}
    for pod in pending:
        if pod.gang is not None:
            gangs.setdefault(pod.gang.key, []).append(pod)
    decisions: list[Decision] = []
    for pod in sorted(pending, key=turn.rank):
        if pod.gang is None:
            decisions.append(turn.alone(pod))
        elif members := gangs.pop(pod.gang.key, None):
            decisions += turn.together(pod.gang, members)
    return decisions


class _Turn:
    """One `assign` under way."""

    def __init__(self, cache: CandidateCache, rng: random.Random, budgets: Sequence[Budget]) -> None:
        self._cache = cache
        self._snapshot = cache.snapshot
        self._rng = rng
        self._budgets = budgets
        self._refusals: dict[PodClass, tuple[int, Refuse]] = {}

    def rank(self, pod: Pending) -> tuple[tuple[float, ...], Key]:
        """Whose turn it is: the smallest comes first."""
        return self._cache.profile.order(pod), pod.key

    def alone(self, pod: Pending) -> Decision:
        """What becomes of a pod."""
        snapshot = self._snapshot
        nominated = snapshot.nominations.get(pod.key, "")
        if nominated:
            snapshot.remove(pod.key)
        node = self._choose(pod.pod_class, nominated)
        if node:
            snapshot.place(pod.key, pod.pod_class, node)
            return self._bind(pod.key, node)
        known = self._still_refused(pod.pod_class)
        refusal = replace(known, pod=pod.key) if known else self._refuse(pod)
        if nominated and waits_for_victims(snapshot, pod.pod_class, nominated):
            snapshot.nominate(pod.key, pod.pod_class, nominated)
            return replace(refusal, preemption=TERMINATING)
        victims = None if known else self._find_victims(pod.pod_class, self._budgets)
        if victims is None:
            if not known:
                why_not = futility(snapshot, pod.pod_class, self._cache.profile_of(pod.pod_class))
                refusal = replace(refusal, preemption=why_not)
            self._refusals[pod.pod_class] = snapshot.used.end, refusal
            return refusal
        # The next pod of this turn must not break a budget that this one has used up.
        self._budgets = spend(self._budgets, ((key, snapshot.class_of(key)) for key in victims.pods))
        for key in victims.nominations:
            snapshot.remove(key)
        snapshot.nominate(pod.key, pod.pod_class, victims.node)
        return Preempt(pod.key, victims.node, victims.pods, refusal)

    def together(self, gang: Gang, members: Sequence[Pending]) -> Sequence[Decision]:
        """What becomes of the waiting members of a gang."""
        if gang.need <= 0:
            return [self.alone(pod) for pod in sorted(members, key=self.rank)]
        nominated = {pod.key: node for pod in members if (node := self._snapshot.nominations.get(pod.key))}
        for key in nominated:
            self._snapshot.remove(key)
        lack = gang.lack(len(members))
        if lack:
            return [Wait(pod.key, lack) for pod in sorted(members, key=self.rank)]
        members = self._largest_first(members)
        nodes, refusal = self._try_all(members, nominated)
        if len(nodes) >= gang.need:
            bound = [self._bind(key, node) for key, node in nodes.items()]
            return [*bound, *(self.alone(pod) for pod in members if pod.key not in nodes)]
        for key in nodes:
            self._snapshot.remove(key)
        if refusal is None:
            raise AssertionError(f"{gang.key}: members neither fit nor were refused")
        refusal = replace(refusal, group=gang.shortage(len(nodes)))
        if any(
            waits_for_victims(self._snapshot, pod.pod_class, nominated[pod.key])
            for pod in members
            if pod.key in nominated
        ):
            for pod in members:
                if pod.key in nominated:
                    self._snapshot.nominate(pod.key, pod.pod_class, nominated[pod.key])
            preempting: dict[Key, Preempt] = {}
        else:
            preempting = self._make_room(gang, members, refusal)
        return [preempting.get(pod.key) or replace(refusal, pod=pod.key) for pod in members]

    def _bind(self, key: Key, node: str) -> Bind:
        return Bind(key, node, self._snapshot.class_of(key).devices)

    def _try_all(
        self, members: Sequence[Pending], preferred: Mapping[Key, str]
    ) -> tuple[dict[Key, str], Refuse | None]:
        """Place all members that fit; where they are, and why the first that does not fit was refused."""
        nodes: dict[Key, str] = {}
        refusal: Refuse | None = None
        hopeless: set[PodClass] = set()
        for pod in members:
            if pod.pod_class in hopeless and not pod.pod_class.peers.gains_by_others:
                continue
            node = self._choose(pod.pod_class, preferred.get(pod.key, ""))
            if node:
                self._snapshot.place(pod.key, pod.pod_class, node)
                nodes[pod.key] = node
                continue
            hopeless.add(pod.pod_class)
            refusal = refusal or self._refuse(pod)
        return nodes, refusal

    def _make_room(self, gang: Gang, members: Sequence[Pending], refusal: Refuse) -> dict[Key, Preempt]:
        """Nominate as many members as the gang needs, by making others go; nobody if that does not suffice."""
        snapshot, ours = self._snapshot, {pod.key for pod in members}
        eviction, budgets = Eviction(snapshot), self._budgets
        found: dict[Key, Preempt] = {}
        classes = {pod.key: pod.pod_class for pod in members}
        for pod in members:
            node, pods = self._choose(pod.pod_class, ""), _NOBODY
            if not node:
                victims = self._find_victims(pod.pod_class, budgets)
                if victims is None or not ours.isdisjoint((*victims.pods, *victims.nominations)):
                    continue
                budgets = spend(budgets, ((key, snapshot.class_of(key)) for key in victims.pods))
                eviction.add(victims)
                node, pods = victims.node, victims.pods
            snapshot.place(pod.key, pod.pod_class, node)
            found[pod.key] = Preempt(pod.key, node, pods, replace(refusal, pod=pod.key))
            if len(found) == gang.need:
                break
        for key in found:
            snapshot.remove(key)
        if len(found) < gang.need:
            eviction.undo()
            return {}
        eviction.postpone()
        self._budgets = budgets
        for key, decision in found.items():
            snapshot.nominate(key, classes[key], decision.node)
        return found

    def _largest_first(self, members: Sequence[Pending]) -> list[Pending]:
        """What is hard to place must not find its room taken by what is easy: by the share of what the cell has."""
        ranked = sorted(members, key=self.rank)
        sizes = {pod.pod_class: 0.0 for pod in ranked}
        if len(sizes) > 1:
            have = np.maximum(self._snapshot.allocatable.sum(axis=0), 1)
            sizes = {pod_class: float((pod_class.amounts / have[pod_class.columns]).max()) for pod_class in sizes}
            # Of unlike importance the more important first: it would push the other out, over and over again.
            ranked.sort(key=lambda pod: (-pod.priority, -sizes[pod.pod_class]))
        return ranked

    def _find_victims(self, pod: PodClass, budgets: Sequence[Budget]) -> Victims | None:
        return find_victims(self._snapshot, pod, budgets, self._cache.profile_of(pod))

    def _refuse(self, pod: Pending) -> Refuse:
        return refuse(self._snapshot, pod.key, pod.pod_class, self._cache.profile_of(pod.pod_class))

    def _still_refused(self, pod: PodClass) -> Refuse | None:
        """Why another pod of this class was refused in this plan, unless a pod placed since then can have changed
        that."""
        moment, known = self._refusals.get(pod, (0, None))
        return known if moment == self._snapshot.used.end or not pod.peers.gains_by_others else None

    def _choose(self, pod: PodClass, preferred: str) -> str:
        """The best machine, or `preferred` if the pod fits there; empty if none takes it."""
        wanted = self._snapshot.row(preferred) if preferred else None
        if wanted is not None and self._cache.fits(pod, wanted):
            return preferred
        row = self._cache.choose(pod, self._rng)
        return "" if row is None else self._snapshot.machine(row).name


def refuse(snapshot: Snapshot, key: Key, pod: PodClass, profile: Profile) -> Refuse:
    """Why no machine takes the pod: per machine, the reasons of the first rule that refuses it."""
    obstacle = snapshot.volumes.obstacle(pod.claims)
    if obstacle:
        return Refuse(key, len(snapshot), {obstacle: len(snapshot)}, obstacle=obstacle)
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

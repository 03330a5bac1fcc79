"""Who gets quota now, and whose is taken for it. Pure: the same state gives the same decisions.

Every open queue offers its head. Of the heads that can borrow from each other the one goes first whose queue's
dominant share would be the smallest, level by level down the cohort tree; then the more important, then the older one.
Where a queue has borrowWithinCohort, priority decides instead, after those that need not borrow: preempting by
priority and admitting by shares would undo each other for ever.

A head that fits takes its quota at once, so the next one is judged by what is left. One that must preempt names its
victims and goes before all others from then on; its quota is set aside until they have stopped. A StrictFIFO queue
ends at its first head that gets nothing, and that head keeps others from borrowing what it waits for within its queue's
own quota; a BestEffortFIFO queue goes on to the next.

Source: kubernetes-sigs/kueue, pkg/scheduler, with fair sharing always on (docs/decisions/0011).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.batch.flavors import Assignment, assign
from corral.batch.model import Admit, Decisions, Mode, Preempt, Queue, State, Wait, Waiting
from corral.batch.preemption import find_targets
from corral.batch.quota import Tree

PENDING_PREEMPTION = "Pending the preemption of {} workload(s)"


def tree_of(state: State) -> Tree:
    """The quotas of `state` with what its workloads use."""
    tree = Tree(state.queues, state.cohorts)
    known = {queue.name for queue in state.queues}
    for held in state.holding:
        if held.queue in known:
            tree.add(held.queue, held.usage)
    return tree


def admit(state: State, now: datetime) -> Decisions:
    """What to do now. `state` stays as it is."""
    return _Round(state, now).run()


def lines(state: State) -> dict[str, list[Waiting]]:
    """The workloads that are considered, by queue, each in its order. Whoever has preempted others comes first, except
    in a StrictFIFO queue, where nothing goes before its elders."""
    strict = {queue.name for queue in state.queues if queue.strict}
    found: dict[str, list[Waiting]] = {}
    for workload in sorted(state.waiting, key=lambda one: (not one.first or one.queue in strict, one.place)):
        if not workload.closed:
            found.setdefault(workload.queue, []).append(workload)
    return found


@dataclass(slots=True)
class _Line:
    """What waits in one queue, and how far this round has come."""

    queue: Queue
    workloads: Sequence[Waiting]
    at: int = 0
    blocked: bool = False

    @property
    def head(self) -> Waiting | None:
        return None if self.blocked or self.at >= len(self.workloads) else self.workloads[self.at]


@dataclass(slots=True, eq=False)
class _Offer:
    line: _Line
    workload: Waiting
    assignment: Assignment
    path: tuple[str, ...]
    """The cohorts above its queue, the nearest first."""
    shares: list[float] | None = None
    """Of its queue and the cohorts above it, with what it asks for; None if they have to be worked out (anew)."""


class _Round:
    def __init__(self, state: State, now: datetime) -> None:
        self._state = state
        self._now = now
        self._tree = tree_of(state)
        by_queue = lines(state)
        self._lines = [
            _Line(queue, [workload for workload in by_queue.get(queue.name, ()) if self._is_due(workload)])
            for queue in sorted(state.queues, key=lambda queue: queue.name)
            if not queue.closed
        ]
        self._by_priority = {self._tree.root(queue.name) for queue in state.queues if queue.preemption.borrowing}
        """Cohorts in which priority goes before fairness, because a queue may preempt others while it borrows."""
        self._failed: dict[tuple[str, object], Assignment] = {}
        """Shapes that got nothing in a queue: quota only gets scarcer within a round, so neither will their like."""
        self._admitted: list[Admit] = []
        self._preempted: dict[object, Preempt] = {}
        self._waiting: list[Wait] = []

    def _is_due(self, workload: Waiting) -> bool:
        return workload.not_before is None or workload.not_before <= self._now

    def run(self) -> Decisions:
        offers = [offer for line in self._lines if (offer := self._offer(line)) is not None]
        while offers:
            offer = self._next(offers)
            offers.remove(offer)
            self._settle(offer)
            below = set(offer.path[:-1])
            for other in offers:
                if below.intersection(other.path[:-1]):
                    other.shares = None  # A cohort below the root, which both are in, uses more now.
            following = self._offer(offer.line)
            if following is not None:
                offers.append(following)
        return Decisions(tuple(self._admitted), tuple(self._preempted.values()), tuple(self._waiting))

    def _offer(self, line: _Line) -> _Offer | None:
        """The queue's next workload that may fit."""
        while (workload := line.head) is not None:
            known = None if workload.shape is None else self._failed.get((line.queue.name, workload.shape))
            if known is not None:
                self._waiting.append(Wait(workload.key, known.message, known.shortages))
                line.at += 1
                continue
            assignment = assign(workload, line.queue, self._state.flavors, self._tree)
            if assignment.mode != Mode.NO_FIT:
                return _Offer(line, workload, assignment, tuple(self._tree.path(line.queue.name)))
            self._pass_over(line, workload, assignment)
        return None

    def _pass_over(self, line: _Line, workload: Waiting, assignment: Assignment) -> None:
        self._waiting.append(Wait(workload.key, assignment.message, assignment.shortages))
        if workload.shape is not None:
            self._failed[line.queue.name, workload.shape] = assignment
        line.at += 1
        if line.queue.strict:
            line.blocked = True
            self._set_aside(line.queue, assignment)

    def _next(self, offers: Sequence[_Offer]) -> _Offer:
        """The offer whose turn it is: a tournament in each cohort, from the leaves up."""
        roots: dict[str, list[_Offer]] = {}
        for offer in offers:
            root = offer.path[-1] if offer.path else f"queue {offer.line.queue.name}"
            roots.setdefault(root, []).append(offer)
        # Different roots share nothing, so their order does not matter.
        root, together = next(iter(roots.items()))
        together = [offer for offer in together if offer.workload.first] or together
        if root in self._by_priority:
            return min(together, key=lambda offer: (offer.assignment.borrows, offer.workload.place))
        return self._winner(together, 1)

    def _winner(self, offers: Sequence[_Offer], depth: int) -> _Offer:
        """Of offers below one node: those of each child have found their winner; the smallest share is the best."""
        if len(offers) == 1:
            return offers[0]
        children: dict[str, list[_Offer]] = {}
        for offer in offers:
            below = len(offer.path) - depth - 1
            children.setdefault(f"/{offer.path[below]}" if below >= 0 else offer.line.queue.name, []).append(offer)
        winners = [self._winner(of_child, depth + 1) for of_child in children.values()]
        return min(winners, key=lambda offer: (self._share(offer, depth), offer.workload.place, offer.line.queue.name))

    def _share(self, offer: _Offer, depth: int) -> float:
        """The share of the node `depth` below the root with what is offered."""
        if offer.shares is None:
            offer.shares = self._tree.shares(offer.line.queue.name, offer.assignment.usage)
        return offer.shares[len(offer.shares) - depth]

    def _settle(self, offer: _Offer) -> None:
        line, workload, assignment = offer.line, offer.workload, offer.assignment
        queue = line.queue
        if assignment.mode == Mode.FIT:
            if self._tree.fits(queue.name, assignment.usage):
                line.at += 1
                self._tree.add(queue.name, assignment.usage)
                self._admitted.append(Admit(workload.key, queue.name, assignment.pod_sets, assignment.borrows))
            # Else somebody was quicker since it was judged: it is judged anew.
            return
        fair = self._tree.root(queue.name) not in self._by_priority
        targets = find_targets(workload, assignment, queue, self._state.holding, self._tree, fair=fair)
        if not targets:
            self._pass_over(line, workload, assignment)
            return
        line.at += 1
        line.blocked = queue.strict
        for target in targets:
            if not target.holding.evicted:
                key = target.holding.key
                self._preempted.setdefault(key, Preempt(key, workload.key, target.reason))
        message = f"{assignment.message}. {PENDING_PREEMPTION.format(len(targets))}"
        self._waiting.append(Wait(workload.key, message, assignment.shortages))
        self._tree.add(queue.name, assignment.usage)

    def _set_aside(self, queue: Queue, assignment: Assignment) -> None:
        """Keep what is left of the queue's own quota for the head of a StrictFIFO queue, unless it can get it back."""
        if queue.preemption.reclaim == "Any":
            return
        wanted = assignment.usage or {lack.place: lack.needed for lack in assignment.shortages if not lack.limit}
        for place, amount in wanted.items():
            left = self._tree.nominal(queue.name, place) - self._tree.used(queue.name, place)
            if min(amount, left) > 0:
                self._tree.add(queue.name, {place: min(amount, left)})

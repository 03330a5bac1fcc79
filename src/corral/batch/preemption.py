"""Whose quota a workload may take, and the fewest workloads that suffice.

Within its own queue a workload takes from what is less important. From other queues it takes only what they borrow, and
only so far as that is fair: the share of its own queue, with it, must not exceed what the other queue is left with, or,
if that is not enough, must be less than what the other had. A queue that stays within its own quota has the share 0,
so it always gets that back. Then whatever need not have been taken is given back, last taken first; and if somebody
would be left so poor that it could take everything back, nothing is taken.

Source: kubernetes-sigs/kueue, KEP-1714 (rules S2-a and S2-b) and pkg/scheduler/preemption. Where queues are in
different branches of a cohort tree, the shares compared are those of the two branches where they part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.batch.flavors import Assignment
from corral.batch.model import Holding, Queue, Waiting
from corral.batch.quota import Tree

IN_QUEUE = "InClusterQueue"
RECLAIM = "InCohortReclamation"
FAIR = "InCohortFairSharing"
BORROWING = "InCohortReclaimWhileBorrowing"


@dataclass(frozen=True, slots=True)
class Target:
    """A workload to preempt, and why it is this one."""

    holding: Holding
    reason: str


def find_targets(
    workload: Waiting, assignment: Assignment, queue: Queue, holding: Sequence[Holding], tree: Tree, *, fair: bool
) -> list[Target]:
    """The workloads to preempt so that `workload` fits as assigned; none if that cannot be. `tree` is left as found.

    If not `fair`, shares do not count: a queue takes back its own, and more only by `borrowWithinCohort`.
    """
    search = _Search(workload, assignment, queue, tree, fair=fair)
    own = [held for held in holding if held.queue == queue.name and search.may_take_own(held)]
    others = [held for held in holding if held.queue != queue.name and search.may_reclaim(held)]
    found = search.run([*own, *others])
    search.restore()
    return found


class _Search:
    """Takes workloads out of the tree until the new one fits."""

    def __init__(self, workload: Waiting, assignment: Assignment, queue: Queue, tree: Tree, *, fair: bool) -> None:
        self._fair = fair
        self._workload = workload
        self._usage = assignment.usage
        self._scarce = assignment.scarce
        self._queue = queue
        self._tree = tree
        self._root = tree.root(queue.name)
        self._taken: list[Target] = []
        policy = queue.preemption
        self._below: int | None = None
        """Workloads of a lower priority than this are taken whatever the shares (borrowWithinCohort)."""
        if policy.borrowing:
            threshold = policy.threshold
            low = threshold is not None and threshold < workload.priority
            self._below = threshold + 1 if low and threshold is not None else workload.priority

    def may_take_own(self, held: Holding) -> bool:
        policy = self._queue.preemption.within
        if policy == "Never" or not self._uses(held):
            return False
        if held.priority < self._workload.priority:
            return True
        newer = held.place > self._workload.place
        return policy == "LowerOrNewerEqualPriority" and held.priority == self._workload.priority and newer

    def may_reclaim(self, held: Holding) -> bool:
        policy = self._queue.preemption.reclaim
        if policy == "Never" or not self._uses(held) or self._tree.root(held.queue) != self._root:
            return False
        return self._borrows(held.queue) and (policy == "Any" or held.priority < self._workload.priority)

    def _uses(self, held: Holding) -> bool:
        return any(held.usage.get(place) for place in self._scarce)

    def _borrows(self, queue: str) -> bool:
        return any(self._tree.borrowed(queue, place) for place in self._scarce)

    def run(self, candidates: Sequence[Holding]) -> list[Target]:
        by_queue: dict[str, list[Holding]] = {}
        for held in sorted(candidates, key=_order):
            by_queue.setdefault(held.queue, []).append(held)
        refused = self._first_pass(by_queue)
        if not self._fits() and not (self._fair and self._second_pass(refused)):
            self.restore()
            return []
        self._give_back()
        return list(self._taken) if self._is_even() else []

    def _first_pass(self, by_queue: dict[str, list[Holding]]) -> dict[str, list[Holding]]:
        """Take while it is fair by what the other is left with, from whoever has the largest share. Returns what was
        refused."""
        refused: dict[str, list[Holding]] = {}
        while by_queue and not self._fits():
            name = self._largest(by_queue)
            held = by_queue[name].pop(0)
            if not by_queue[name]:
                del by_queue[name]
            if name == self._queue.name:
                self._take(held, IN_QUEUE)
            elif not self._borrows(name):
                by_queue.pop(name, None)
            else:
                own, _, left = self._shares(held)
                if own == 0 or (self._fair and own <= left):
                    self._take(held, FAIR if own else RECLAIM)
                elif self._below is not None and held.priority < self._below:
                    self._take(held, BORROWING)
                else:
                    refused.setdefault(name, []).append(held)
        return refused

    def _second_pass(self, refused: dict[str, list[Holding]]) -> bool:
        """Take one more from each queue whose share was the larger. Returns whether the workload fits."""
        while refused:
            name = self._largest(refused)
            held = refused.pop(name)[0]
            own, had, _ = self._shares(held)
            if own < had and self._borrows(name):
                self._take(held, FAIR)
                if self._fits():
                    return True
        return False

    def _largest(self, by_queue: dict[str, list[Holding]]) -> str:
        return max(sorted(by_queue), key=self._tree.share)

    def _shares(self, held: Holding) -> tuple[float, float, float]:
        """The new workload's side with it; the other side as it is, and without `held`."""
        mine, other = self._tree.path(self._queue.name), self._tree.path(held.queue)
        common = next(name for name in mine if name in other)
        own = self._tree.shares(self._queue.name, self._usage)[mine.index(common)]
        at = other.index(common)
        had = self._tree.shares(held.queue, {})[at]
        left = self._tree.shares(held.queue, {place: -amount for place, amount in held.usage.items()})[at]
        return own, had, left

    def _take(self, held: Holding, reason: str) -> None:
        self._tree.remove(held.queue, held.usage)
        self._taken.append(Target(held, reason))

    def _fits(self) -> bool:
        return bool(self._taken) and self._tree.fits(self._queue.name, self._usage)

    def _give_back(self) -> None:
        for target in self._taken[-2::-1]:
            self._tree.add(target.holding.queue, target.holding.usage)
            if self._tree.fits(self._queue.name, self._usage):
                self._taken.remove(target)
            else:
                self._tree.remove(target.holding.queue, target.holding.usage)

    def _is_even(self) -> bool:
        """Whether each that was taken for fairness would, were it to come back, make its side no poorer than the new
        workload makes its own: else it would preempt in turn, which can happen where several were taken from one."""
        for target in self._taken:
            if target.reason == FAIR:
                held = target.holding
                mine, other = self._tree.path(self._queue.name), self._tree.path(held.queue)
                common = next(name for name in mine if name in other)
                own = self._tree.shares(self._queue.name, self._usage)[mine.index(common)]
                if self._tree.shares(held.queue, held.usage)[other.index(common)] < own:
                    return False
        return True

    def restore(self) -> None:
        """Put back what was taken."""
        for target in self._taken:
            self._tree.add(target.holding.queue, target.holding.usage)
        self._taken = []


def _order(held: Holding) -> tuple[bool, int, tuple[int, ...], object]:
    """Those that are on their way out first, then the least important, then who got quota last."""
    return (not held.evicted, held.priority, tuple(-ord(letter) for letter in held.reserved), held.key)

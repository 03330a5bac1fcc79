"""Quota along the cohort tree: what is free to a queue, who borrows, whose share is the largest.

Each node keeps for itself what its lending limit says (`guaranteed`); the rest of its quota, and what is used beyond
the guaranteed part, count at its parent. So no sequence of additions that each fit can use more than a node's quota
and its borrowing limit, or more than the whole tree has. The recursion is that of kubernetes-sigs/kueue,
pkg/cache/scheduler/resource_node.go; the share is dominant resource fairness (Ghodsi et al., NSDI'11) on what is
borrowed, as in Kueue's KEP-1714.
"""

import math
from collections.abc import Iterable, Mapping

from corral.batch.model import Cohort, FlavorResource, Queue, Quota, Usage

_NONE = Quota()


class _Node:
    __slots__ = ("children", "name", "parent", "quotas", "subtree", "usage", "weight")

    def __init__(self, name: str, quotas: Mapping[FlavorResource, Quota], weight: float) -> None:
        self.name = name
        self.quotas = quotas
        self.weight = weight
        self.parent: _Node | None = None
        self.children: list[_Node] = []
        self.subtree: dict[FlavorResource, int] = {}
        self.usage: dict[FlavorResource, int] = {}

    def guaranteed(self, place: FlavorResource) -> int:
        """What others never borrow."""
        lending = self.quotas.get(place, _NONE).lending
        return 0 if lending is None else max(0, self.subtree.get(place, 0) - lending)

    def fill(self) -> None:
        """Work out `subtree`, children first."""
        self.subtree = {place: quota.nominal for place, quota in self.quotas.items()}
        for child in self.children:
            child.fill()
            for place, amount in child.subtree.items():
                self.subtree[place] = self.subtree.get(place, 0) + amount - child.guaranteed(place)

    def free(self, place: FlavorResource) -> int:
        """What may be added; negative if too much is used."""
        used, total = self.usage.get(place, 0), self.subtree.get(place, 0)
        if self.parent is None:
            return total - used
        guaranteed = self.guaranteed(place)
        above = self.parent.free(place)
        limit = self.quotas.get(place, _NONE).borrowing
        if limit is not None:
            above = min(above, total - guaranteed - max(0, used - guaranteed) + limit)
        return max(0, guaranteed - used) + above

    def most(self, place: FlavorResource) -> int:
        """What could be used if nobody else used anything."""
        total = self.subtree.get(place, 0)
        if self.parent is None:
            return total
        most = self.guaranteed(place) + self.parent.most(place)
        limit = self.quotas.get(place, _NONE).borrowing
        return most if limit is None else min(most, total + limit)

    def add(self, place: FlavorResource, amount: int) -> None:
        """Count `amount` as used; negative takes it away."""
        guaranteed = self.guaranteed(place)
        before = self.usage.get(place, 0)
        self.usage[place] = before + amount
        if self.parent is not None:
            above = max(0, before + amount - guaranteed) - max(0, before - guaranteed)
            if above:
                self.parent.add(place, above)


class Tree:
    """The quotas of all queues and cohorts, and their use, which `add` and `remove` change."""

    def __init__(self, queues: Iterable[Queue], cohorts: Iterable[Cohort]) -> None:
        self._queues = {queue.name: _Node(queue.name, queue.quotas, queue.weight) for queue in queues}
        self._cohorts = {cohort.name: _Node(cohort.name, cohort.quotas, cohort.weight) for cohort in cohorts}
        self._lendable: dict[str, dict[str, int]] = {}
        parents = {cohort.name: cohort.parent for cohort in cohorts}
        self.cyclic = frozenset(name for name in parents if _is_cyclic(name, parents))
        """Cohorts that are their own ancestors: they, and what is in them, are cut off from one another."""
        for cohort in cohorts:
            self._join(self._cohorts[cohort.name], "" if cohort.name in self.cyclic else cohort.parent)
        for queue in queues:
            self._join(self._queues[queue.name], queue.cohort)
        for node in (*self._queues.values(), *self._cohorts.values()):
            if node.parent is None:
                node.fill()

    def _join(self, node: _Node, parent: str) -> None:
        if parent:
            # A cohort need not be an object: being named is enough.
            node.parent = self._cohorts.setdefault(parent, _Node(parent, {}, 1.0))
            node.parent.children.append(node)

    def root(self, queue: str) -> str:
        """What all queues have in common that can borrow from each other: a cohort's name, or the queue's own."""
        node = self._queues[queue]
        if node.parent is None:
            return f"queue {queue}"
        while node.parent is not None:
            node = node.parent
        return node.name

    def path(self, queue: str) -> list[str]:
        """The cohorts above a queue, the nearest first."""
        found, node = [], self._queues[queue].parent
        while node is not None:
            found.append(node.name)
            node = node.parent
        return found

    def free(self, queue: str, place: FlavorResource) -> int:
        """How much more the queue may use."""
        return self._queues[queue].free(place)

    def most(self, queue: str, place: FlavorResource) -> int:
        """How much the queue may use at best."""
        return self._queues[queue].most(place)

    def used(self, queue: str, place: FlavorResource) -> int:
        """How much the queue uses."""
        return self._queues[queue].usage.get(place, 0)

    def nominal(self, queue: str, place: FlavorResource) -> int:
        """The queue's own quota."""
        return self._queues[queue].quotas.get(place, _NONE).nominal

    def borrowed(self, queue: str, place: FlavorResource, more: int = 0) -> int:
        """How much the queue uses beyond its own quota, or would with `more`."""
        return max(0, self.used(queue, place) + more - self.nominal(queue, place))

    def fits(self, queue: str, usage: Usage, *, borrowing: bool = True) -> bool:
        """Whether all of it may be added, without borrowing if `borrowing` is False."""
        return all(
            amount <= self.free(queue, place) and (borrowing or not self.borrowed(queue, place, amount))
            for place, amount in usage.items()
            if amount
        )

    def add(self, queue: str, usage: Usage) -> None:
        """Count `usage` as the queue's."""
        node = self._queues[queue]
        for place, amount in usage.items():
            node.add(place, amount)

    def remove(self, queue: str, usage: Usage) -> None:
        """Undo `add`."""
        self.add(queue, {place: -amount for place, amount in usage.items()})

    def share(self, queue: str, more: Usage | None = None) -> float:
        """The queue's weighted dominant share with `more`: 0 without borrowing, infinite if its weight is 0."""
        return self._share(self._queues[queue], more or {})

    def shares(self, queue: str, more: Usage) -> list[float]:
        """`share` of the queue and of each cohort above it, the root's child last."""
        found, node = [], self._queues[queue]
        while node.parent is not None:
            found.append(self._share(node, more))
            above = {}
            for place, amount in more.items():
                guaranteed, used = node.guaranteed(place), node.usage.get(place, 0)
                above[place] = max(0, used + amount - guaranteed) - max(0, used - guaranteed)
            more, node = above, node.parent
        return found

    def _share(self, node: _Node, more: Usage) -> float:
        if node.parent is None:
            return 0.0
        borrowed: dict[str, int] = {}
        for place in {**node.usage, **more}:
            beyond = node.usage.get(place, 0) + more.get(place, 0) - node.subtree.get(place, 0)
            if beyond > 0:
                borrowed[place.resource] = borrowed.get(place.resource, 0) + beyond
        lendable = self._lendable_of(node.parent)
        ratio = max((amount / lendable[name] for name, amount in borrowed.items() if lendable.get(name)), default=0.0)
        if not ratio:
            return 0.0
        return ratio / node.weight if node.weight else math.inf

    def _lendable_of(self, cohort: _Node) -> dict[str, int]:
        found = self._lendable.get(cohort.name)
        if found is None:
            root = cohort
            while root.parent is not None:
                root = root.parent
            found = self._lendable[cohort.name] = {}
            for place in root.subtree:
                found[place.resource] = found.get(place.resource, 0) + cohort.most(place)
        return found


def _is_cyclic(name: str, parents: Mapping[str, str]) -> bool:
    seen: set[str] = set()
    while name and name not in seen:
        seen.add(name)
        name = parents.get(name, "")
    return bool(name)

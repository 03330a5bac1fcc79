"""How many placed pods that a selector chooses are in each domain of a topology: counted as pods come and go.

A tie belongs to a selector of pods and a topology key (a label of machines, whose values are the domains). Besides the
pods chosen it counts the placed pods that avoid such pods in their domain, and how strongly others draw them there, so
that rules between pods hold both ways. A tie lives as long as a pod class refers to it.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corral.kinds.selectors import LabelSelector, NodeSelector
from corral.kinds.taints import Toleration
from corral.scheduler.labels import LabelColumns

NOWHERE = LabelSelector(nothing=True)


@dataclass(frozen=True, slots=True)
class PeerSelector:
    """Chooses pods by labels in namespaces that are named or chosen by their own labels."""

    labels: LabelSelector
    namespaces: frozenset[str]
    in_namespaces: LabelSelector = NOWHERE


@dataclass(frozen=True, slots=True)
class Eligible:
    """The machines that count for a spread constraint: those with all of `keys` that the pod's own rules allow."""

    keys: tuple[str, ...] = ()
    node_selector: tuple[tuple[str, str], ...] = ()
    affinity: NodeSelector | None = None
    tolerations: tuple[Toleration, ...] | None = None
    """None if taints do not matter."""


class Placed(Protocol):
    """What counting needs to know of a pod; see `Peers`."""

    @property
    def namespace(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def terminating(self) -> bool: ...
    @property
    def repelled(self) -> "tuple[Tie, ...]": ...
    @property
    def pulls(self) -> "tuple[tuple[Tie, int], ...]": ...


_NO_CELLS: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
_NONE_COUNTED: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
_NO_SUMS: NDArray[np.int64] = np.zeros(1, dtype=np.int64)


class DomainCounts:
    """Amounts by row, summed by domain. The sums are worked out anew when machines change, else kept up to date."""

    __slots__ = ("_cells", "_counted", "_domains", "_rows", "_shape", "_sums")

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._shape = -1
        # Read as they are until `refresh` makes others; there may be thousands of counts.
        self._cells = _NO_CELLS
        self._counted = _NONE_COUNTED
        self._sums = _NO_SUMS
        self._domains: NDArray[np.intp] | None = None

    def copy(self) -> "DomainCounts":
        """Another one with the same amounts; its sums are worked out anew."""
        other = DomainCounts()
        other._rows = self._rows.copy()
        return other

    def __bool__(self) -> bool:
        """Whether anything is counted on any machine."""
        return bool(self._rows)

    def clear(self) -> None:
        """Forget all amounts."""
        self._rows.clear()
        self._shape = -1

    def add(self, row: int, amount: int, shape: int) -> None:
        """Count `amount` more on `row`; `shape` is the snapshot's."""
        after = self._rows.get(row, 0) + amount
        if after:
            self._rows[row] = after
        else:
            self._rows.pop(row, None)
        if shape == self._shape and self._counted[row] and self._cells[row]:
            self._sums[self._cells[row]] += amount

    def refresh(
        self, shape: int, labels: LabelColumns, key: str, counted: Callable[[], NDArray[np.bool_]]
    ) -> NDArray[np.int64]:
        """The sums by the number of the label's value; that of 0, for machines without the label, is 0.

        Args:
            counted: gives the rows that count.
        """
        if shape != self._shape:
            self._shape, self._counted, self._domains = shape, counted(), None
            self._cells, values = labels.cells(key)
            self._sums = np.zeros(values, dtype=np.int64)
            for row, amount in self._rows.items():
                if self._counted[row]:
                    self._sums[self._cells[row]] += amount
            self._sums[0] = 0
        return self._sums

    @property
    def cells(self) -> NDArray[np.int32]:
        """For each row the number of its domain, 0 if it is in none; as of the last `refresh`."""
        return self._cells

    @property
    def domains(self) -> NDArray[np.intp]:
        """The numbers of the domains in which a row counts; as of the last `refresh`."""
        if self._domains is None:
            present = np.bincount(self._cells[self._counted], minlength=len(self._sums))
            present[0] = 0
            self._domains = np.flatnonzero(present)
        return self._domains


class Tie:
    """The counts that belong to selectors (pods chosen by all of them), a topology key, and machines that count."""

    __slots__ = ("__weakref__", "chosen", "eligible", "key", "pulls", "repels", "selectors")

    def __init__(self, selectors: tuple[PeerSelector, ...], key: str, eligible: Eligible | None) -> None:
        self.selectors = selectors
        self.key = key
        self.eligible = eligible
        """For spreading only, which also leaves out pods that are terminating."""
        self.chosen = DomainCounts()
        self.repels = DomainCounts()
        """Placed pods that want no chosen pod in their domain."""
        self.pulls = DomainCounts()
        """The weights with which placed pods want chosen pods in their domain."""

    def copy(self) -> "Tie":
        """Another one with the same counts."""
        other = Tie(self.selectors, self.key, self.eligible)
        other.chosen, other.repels, other.pulls = self.chosen.copy(), self.repels.copy(), self.pulls.copy()
        return other


class Ties:
    """All ties of a snapshot.

    Args:
        placed: gives every placed pod and its row, to count for a new tie.
    """

    def __init__(self, placed: Callable[[], Iterable[tuple[Placed, int]]]) -> None:
        self._placed = placed
        self._all: weakref.WeakValueDictionary[tuple[tuple[PeerSelector, ...], str, Eligible | None], Tie] = (
            weakref.WeakValueDictionary()
        )
        self._by_label: dict[tuple[str, str], weakref.WeakSet[Tie]] = {}
        """Ties that choose only pods with one of certain labels, by these labels."""
        self._others: weakref.WeakSet[Tie] = weakref.WeakSet()
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._chosen_by: weakref.WeakKeyDictionary[Placed, tuple[Tie, ...]] = weakref.WeakKeyDictionary()
        """What `choosing` gave since ties or namespaces changed; so long it keeps ties that nobody else refers to."""

    def copy(self, placed: Callable[[], Iterable[tuple[Placed, int]]]) -> "tuple[Ties, dict[Tie, Tie]]":
        """Ties with the same counts for another snapshot, and which of them stands for which of these: they live as
        long as somebody keeps them."""
        other = Ties(placed)
        other._namespaces = self._namespaces.copy()
        moved = {tie: tie.copy() for tie in self._all.values()}
        for name, tie in self._all.items():
            other._all[name] = moved[tie]
            other._index(moved[tie])
        return other, moved

    def tie(self, selectors: tuple[PeerSelector, ...], key: str, eligible: Eligible | None = None) -> Tie:
        """The one tie with these properties; a new one has counted what is placed already."""
        found = self._all.get((selectors, key, eligible))
        if found is None:
            found = self._all[selectors, key, eligible] = Tie(selectors, key, eligible)
            self._chosen_by.clear()
            self._index(found)
            self._count_chosen(found)
        return found

    def choosing(self, pod: Placed) -> Sequence[Tie]:
        """The ties whose selectors choose `pod`."""
        known = self._chosen_by.get(pod)
        if known is None:
            known = self._chosen_by[pod] = tuple(self._choosing(pod))
        return known

    def resemble(self, pod: Placed, known: Placed) -> None:
        """`pod` has the namespace and labels of `known`, and so the same ties choose it."""
        chosen_by = self._chosen_by.get(known)
        if chosen_by is not None:
            self._chosen_by[pod] = chosen_by

    def _choosing(self, pod: Placed) -> Iterator[Tie]:
        for label in pod.labels.items():
            for tie in self._by_label.get(label, ()):
                if self.chooses(tie, pod):
                    yield tie
        for tie in self._others:
            if self.chooses(tie, pod):
                yield tie

    def chooses(self, tie: Tie, pod: Placed) -> bool:
        """Whether all selectors of `tie` choose `pod`."""
        return all(
            (
                pod.namespace in selector.namespaces
                or selector.in_namespaces.matches(self._namespaces.get(pod.namespace, {}))
            )
            and selector.labels.matches(pod.labels)
            for selector in tie.selectors
        )

    def count(self, pod: Placed, row: int, sign: int, shape: int) -> None:
        """A pod came to `row` (`sign` 1) or left it (-1)."""
        for tie in self.choosing(pod):
            if not (pod.terminating and tie.eligible is not None):
                tie.chosen.add(row, sign, shape)
        for tie in pod.repelled:
            tie.repels.add(row, sign, shape)
        for tie, weight in pod.pulls:
            tie.pulls.add(row, sign * weight, shape)

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """A namespace has these labels now (None: it is gone); whether that changed what any tie chooses."""
        if self._namespaces.get(name) == labels:
            return False
        if labels is None:
            del self._namespaces[name]
        else:
            self._namespaces[name] = labels
        concerned = [
            tie for tie in self._all.values() if any(not selector.in_namespaces.nothing for selector in tie.selectors)
        ]
        self._chosen_by.clear()
        for tie in concerned:
            tie.chosen.clear()
            self._count_chosen(tie)
        return bool(concerned)

    def _count_chosen(self, tie: Tie) -> None:
        chosen: dict[Placed, bool] = {}
        for pod, row in self._placed():
            wanted = chosen.get(pod)
            if wanted is None:
                wanted = self.chooses(tie, pod) and not (pod.terminating and tie.eligible is not None)
                chosen[pod] = wanted
            if wanted:
                tie.chosen.add(row, 1, -2)

    def _index(self, tie: Tie) -> None:
        if len(self._by_label) > 2 * len(self._all) + 64:
            self._by_label = {label: ties for label, ties in self._by_label.items() if ties}
        for selector in tie.selectors:
            for need in selector.labels.requirements:
                if need.operator == "In":
                    for value in need.values:
                        self._by_label.setdefault((need.key, value), weakref.WeakSet()).add(tie)
                    return
        self._others.add(tie)

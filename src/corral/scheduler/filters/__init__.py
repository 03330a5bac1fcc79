"""Where a pod may go. One file a rule; each judges all machines at once and can explain a single refusal.

The rules, their order and their wording are those of kube-scheduler's default plugins.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Rows, Snapshot


class Filter(Protocol):
    """One rule."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        """One truth value a row of the snapshot; None if every machine passes."""

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        """How many of `rows`, none of which passes, are refused for each reason."""

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        """Why the machine of `row` does not pass, in Kubernetes' words; empty if it does."""


class Domains(NamedTuple):
    """What a rule says of the domains of a topology, and so of their machines."""

    key: str
    """The label whose values are the domains."""
    cells: NDArray[np.int32]
    """For each row the number of its domain."""
    passes: NDArray[np.bool_]
    """By number of the domain."""

    @property
    def rows(self) -> NDArray[np.bool_]:
        """Which rows pass."""
        return self.passes.take(self.cells)


@runtime_checkable
class DomainFilter(Filter, Protocol):
    """A rule that says the same of all machines of a domain."""

    def domains(self, snapshot: Snapshot, pod: PodClass) -> Iterable[Domains]:
        """What all must allow; nothing if every machine passes."""


class RowFilter(Filter, Protocol):
    """A rule on which only the pods that are on a machine have a say, so that it is judged again row by row."""

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        """`passes` for some rows only; None if every machine passes."""


def all_of(domains: Iterable[Domains]) -> NDArray[np.bool_] | None:
    """The rows that all of `domains` let pass; None if there are none."""
    mask: NDArray[np.bool_] | None = None
    for one in domains:
        mask = one.rows if mask is None else mask & one.rows
    return mask

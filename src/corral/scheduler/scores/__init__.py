"""Which of the machines that pass is best. One file a rule; each gives 0 to 100 to every machine at once.

A score depends on what is on the machine and is kept up to date row by row (`RowScore`), on labels and taints only
(`ShapeScore`), or on the pods in a machine's domains (`PeerScore`).
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Rows, Snapshot

BEST = 100.0
NEVER = -np.inf
"""The total score of a machine that cannot take the pod."""


class RowScore(Protocol):
    """A score that only a pod placed on the same machine changes."""

    def score(
        self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """Scores of `rows`, whether the pod fits there or not; None if it is all the same for pods like this.

        Args:
            share: what part of each row's cpu and memory would be taken with the pod there, at most 1; rows x 2.
        """


class ShapeScore(Protocol):
    """A score that depends on the machines themselves."""

    def count(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        """What speaks for (or against) each row, at least 0; None if that is nothing anywhere."""

    def score(self, counts: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Scores of all rows, relative to those where `total` is not minus infinity; None if they are all the same."""


@runtime_checkable
class DomainScore(Protocol):
    """A `PeerScore` that knows, from what the rules say of domains alone, when it has nothing to say."""

    def matters(self, snapshot: Snapshot, pod: PodClass, allowed: Sequence[Domains]) -> bool:
        """False if all machines in domains that are `allowed` get the same."""


class PeerScore(Protocol):
    """A score that depends on which pods are where."""

    def score(self, snapshot: Snapshot, pod: PodClass, total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Scores of all rows, relative to those where `total` is not minus infinity; None if they are all the same."""

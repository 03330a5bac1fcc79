"""Which of the machines that pass is best. One file a rule; each gives 0 to 100 to every machine at once.

A score either depends on how full machines are and is kept up to date row by row (`FillScore`), or on labels and
taints only (`ShapeScore`).
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot

BEST = 100.0


class FillScore(Protocol):
    """A score that a placed pod changes."""

    def score(self, share: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of machines; `share` (machines x 2) is what part of cpu and memory would be taken with the pod there,
        at most 1."""


class ShapeScore(Protocol):
    """A score that depends on the machines themselves."""

    def score(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        """Scores of all rows; None if they are all the same."""

"""Scores by how full a machine would be: kube-scheduler's NodeResourcesFit and NodeResourcesBalancedAllocation."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Rows, Snapshot


class LeastAllocated:
    """Spreads: the emptier a machine stays, the better."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = BEST - (share[:, 0] + share[:, 1]) * (BEST / 2)
        return scores


class MostAllocated:
    """Packs (best fit): the fuller a machine gets, the better."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = (share[:, 0] + share[:, 1]) * (BEST / 2)
        return scores


class Balanced:
    """Keeps cpu and memory equally full, so that neither strands the other.

    With two resources the standard deviation of the shares is half their distance.
    """

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        return BEST - np.abs(share[:, 0] - share[:, 1]) * (BEST / 2)

"""Spreading that is wished for, not required: kube-scheduler's PodTopologySpread."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains
from corral.scheduler.filters.topology_spread import spread_sums
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST, NEVER
from corral.scheduler.snapshot import Snapshot


class PreferredSpread:
    """`topologySpreadConstraints` that say ScheduleAnyway: the fewer pods of the group in the domain, the better.

    Topologies with many domains weigh more, by the logarithm of their number plus 2. Machines that lack a label of the
    constraints are worst.
    """

    def matters(self, snapshot: Snapshot, pod: PodClass, allowed: Sequence[Domains]) -> bool:
        return bool(pod.peers.even)

    def score(self, snapshot: Snapshot, pod: PodClass, total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        if not pod.peers.even:
            return None
        crowd = np.zeros(len(total))
        known = total > NEVER
        for constraint in pod.peers.even:
            spread_sums(snapshot, constraint.tie)
            known &= constraint.tie.chosen.cells > 0
        for constraint in pod.peers.even:
            sums, cells = spread_sums(snapshot, constraint.tie), constraint.tie.chosen.cells
            domains = np.count_nonzero(np.bincount(cells[known], minlength=1))
            crowd += sums[cells] * math.log(domains + 2) + (constraint.max_skew - 1)
        among = crowd[known]
        if not len(among):
            return None
        highest = float(among.max())
        scores = (highest + float(among.min()) - crowd) * (BEST / highest) if highest > 0 else np.full(len(crowd), BEST)
        return np.where(known, scores, 0.0)

"""PreferNoSchedule: the fewer such taints the pod does not tolerate, the better, relative to the worst machine
that can take the pod."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST, NEVER
from corral.scheduler.snapshot import Snapshot


class PreferredTaints:
    """Taints with the effect PreferNoSchedule."""

    def count(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        table = np.array(
            [
                sum(taint.effect == "PreferNoSchedule" and not pod.tolerates(taint) for taint in taints)
                for taints in snapshot.taint_sets
            ],
            dtype=np.float64,
        )
        return table[snapshot.taints] if table.any() else None

    def score(self, counts: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        worst = counts[total > NEVER].max(initial=0.0)
        return BEST - counts * (BEST / worst) if worst > 0 else None

"""PreferNoSchedule: the fewer such taints the pod does not tolerate, the better, relative to the worst machine."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Snapshot


class PreferredTaints:
    """Taints with the effect PreferNoSchedule."""

    def score(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        table = np.array(
            [
                sum(taint.effect == "PreferNoSchedule" and not pod.tolerates(taint) for taint in taints)
                for taints in snapshot.taint_sets
            ],
            dtype=np.float64,
        )
        counts = table[snapshot.taints]
        worst = counts[snapshot.alive].max(initial=0.0)
        return BEST - counts * (BEST / worst) if worst > 0 else None

"""Preferred node affinity: the sum of the weights of the terms that a machine fulfils, relative to the best machine."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters.node_affinity import term_matches
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Snapshot


class PreferredAffinity:
    """`preferredDuringSchedulingIgnoredDuringExecution` of the pod's node affinity."""

    def score(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        if not pod.preferences:
            return None
        sums = np.zeros(len(snapshot.alive))
        for preference in pod.preferences:
            sums += preference.weight * term_matches(snapshot, preference.on_labels, preference.on_fields)
        highest = sums[snapshot.alive].max(initial=0.0)
        return sums * (BEST / highest) if highest > 0 else None

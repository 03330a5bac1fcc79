"""Preferred node affinity: the sum of the weights of the terms that a machine fulfils, relative to the best machine
that can take the pod."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters.node_affinity import term_matches
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST, NEVER
from corral.scheduler.snapshot import Snapshot


class PreferredAffinity:
    """`preferredDuringSchedulingIgnoredDuringExecution` of the pod's node affinity."""

    def count(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.float64] | None:
        if not pod.preferences:
            return None
        sums = np.zeros(len(snapshot.alive))
        for preference in pod.preferences:
            sums += preference.weight * term_matches(snapshot, preference.on_labels, preference.on_fields)
        return sums

    def score(self, counts: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        highest = counts[total > NEVER].max(initial=0.0)
        return counts * (BEST / highest) if highest > 0 else None

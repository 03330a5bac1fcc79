"""Preferred affinity between pods, both ways: kube-scheduler's InterPodAffinity."""

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters.pod_affinity import domain_sums
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST, NEVER
from corral.scheduler.snapshot import Snapshot


class PreferredPodAffinity:
    """What the pod prefers to be near, and what those there prefer, summed and stretched to 0 to 100."""

    def score(self, snapshot: Snapshot, pod: PodClass, total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        sums: NDArray[np.int64] | None = None
        wishes = [(tie, tie.chosen, weight) for tie, weight in pod.peers.preferred]
        wishes += [(tie, tie.pulls, 1) for tie in snapshot.ties.choosing(pod.peers)]
        for tie, counts, weight in wishes:
            if counts:
                here = (weight * domain_sums(snapshot, tie, counts))[counts.cells]
                sums = here if sums is None else sums + here
        if sums is None:
            return None
        among = sums[total > NEVER]
        if not len(among) or among.min() == among.max():
            return None
        lowest = int(among.min())
        scores = (sums - lowest).astype(np.float64)
        scores *= BEST / (int(among.max()) - lowest)
        return scores

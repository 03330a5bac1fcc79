"""Preferred affinity between pods, both ways: kube-scheduler's InterPodAffinity."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains
from corral.scheduler.filters.pod_affinity import domain_sums
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST, NEVER
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.ties import DomainCounts, Tie


class PreferredPodAffinity:
    """What the pod prefers to be near, and what those there prefer, summed and stretched to 0 to 100."""

    def matters(self, snapshot: Snapshot, pod: PodClass, allowed: Sequence[Domains]) -> bool:
        for tie, counts, _ in _wishes(snapshot, pod):
            sums = domain_sums(snapshot, tie, counts)
            passing = [one.passes for one in allowed if one.key == tie.key]
            among = sums[np.logical_and.reduce(passing)] if passing else sums
            if len(among) and among.min() < among.max():
                return True
        return False

    def score(self, snapshot: Snapshot, pod: PodClass, total: NDArray[np.float64]) -> NDArray[np.float64] | None:
        sums: NDArray[np.int64] | None = None
        for tie, counts, weight in _wishes(snapshot, pod):
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


def _wishes(snapshot: Snapshot, pod: PodClass) -> Iterator[tuple[Tie, DomainCounts, int]]:
    """What is counted anywhere that the pod is drawn to, or away from, and how strongly."""
    for tie, weight in pod.peers.preferred:
        if tie.chosen:
            yield tie, tie.chosen, weight
    for tie in snapshot.ties.choosing(pod.peers):
        if tie.pulls:
            yield tie, tie.pulls, 1

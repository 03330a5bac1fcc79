"""For one equivalence class: which machines pass and how good each is, kept fresh row by row.

One array holds most of it: the score of each machine by how full it is, or minus infinity where the class cannot go.
After a pod was placed, only the rows that changed are worked out again; after a change of the machines themselves,
everything is. What is relative to the machines that pass, and what pods elsewhere have a say in, is worked out on top
of that for each decision that it matters to.
"""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import RESOURCES, Profile
from corral.scheduler.scores import NEVER, ShapeScore
from corral.scheduler.snapshot import Rows, Snapshot

_KEPT = 256
# Working out rows one by one costs about this share of working out all of them.
_MANY = 8
_NO_OTHERS: Mapping[str, Profile] = {}


class Candidates:
    """The machines as pods see them that differ in their peers only."""

    def __init__(self, snapshot: Snapshot, pod: PodClass, profile: Profile) -> None:
        self._snapshot = snapshot
        self._pod = pod
        self._profile = profile
        self._scores = profile.row_scores(pod)
        self._shape = -1, -1
        self._seen = 0
        self._allowed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._counts: list[tuple[ShapeScore, float, NDArray[np.float64]]] = []
        self._fill: NDArray[np.float64] = np.zeros(0)

    @property
    def full(self) -> bool:
        """Whether no machine has room, whatever pods are near."""
        self._refresh()
        return bool(self._fill.max() == NEVER)

    def totals(self, pod: PodClass) -> NDArray[np.float64]:
        """The total scores as of now for `pod`."""
        self._refresh()
        snapshot, total = self._snapshot, self._fill
        for rule in self._profile.peer_filters:
            mask = rule.passes(snapshot, pod)
            if mask is not None:
                total = np.where(mask, total, NEVER)
        for score, weight, counts in self._counts:
            total = _plus(total, weight, score.score(counts, total))
        for peer_score, weight in self._profile.peers:
            total = _plus(total, weight, peer_score.score(snapshot, pod, total))
        return total

    def _refresh(self) -> None:
        snapshot = self._snapshot
        if self._shape != self._current():
            self._rebuild()
            return
        if self._seen == snapshot.used.end:
            return
        changed = snapshot.used.since(self._seen)
        self._seen = snapshot.used.end
        if changed is None or len(changed) > len(self._fill) // _MANY:
            self._fill = self._judge(slice(None))
        else:
            rows = np.fromiter(changed, dtype=np.intp, count=len(changed))
            self._fill[rows] = self._judge(rows)

    def _current(self) -> tuple[int, int]:
        """What the machines were like, and for pods with claims the storage."""
        return self._snapshot.shape, self._snapshot.volumes.version if self._pod.claims else 0

    def _rebuild(self) -> None:
        snapshot, pod = self._snapshot, self._pod
        allowed = snapshot.alive.copy()
        for rule in self._profile.shape_filters:
            mask = rule.passes(snapshot, pod)
            if mask is not None:
                allowed &= mask
        counted = ((score, weight, score.count(snapshot, pod)) for score, weight in self._profile.shape)
        self._counts = [(score, weight, counts) for score, weight, counts in counted if counts is not None]
        self._allowed = allowed
        self._shape, self._seen = self._current(), snapshot.used.end
        self._fill = self._judge(slice(None))

    def _judge(self, rows: Rows) -> NDArray[np.float64]:
        snapshot, pod = self._snapshot, self._pod
        passes = RESOURCES.fits(snapshot, pod, rows) & self._allowed[rows]
        for rule in self._profile.row_filters:
            mask = rule.fits(snapshot, pod, rows)
            if mask is not None:
                passes &= mask
        share = (snapshot.load[rows] + pod.load) / np.maximum(snapshot.allocatable[rows, :2], 1)
        np.minimum(share, 1.0, out=share)
        total = np.zeros(len(share))
        for score, weight in self._scores:
            total = _plus(total, weight, score.score(snapshot, pod, rows, share))
        return np.where(passes, total, NEVER)


def _plus(total: NDArray[np.float64], weight: float, scores: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return total if scores is None else total + weight * scores


class CandidateCache:
    """The candidates of the classes asked for lately.

    Args:
        others: instead of `profile`, for pods that name one of these schedulers.
    """

    def __init__(self, snapshot: Snapshot, profile: Profile, others: Mapping[str, Profile] = _NO_OTHERS) -> None:
        self.snapshot = snapshot
        self.profile = profile
        self._others = others
        self._kept: OrderedDict[bytes, Candidates] = OrderedDict()

    def profile_of(self, pod: PodClass) -> Profile:
        """By which rules `pod` is placed."""
        return self._others.get(pod.scheduler, self.profile)

    def totals(self, pod: PodClass) -> NDArray[np.float64]:
        """The total scores of all rows for `pod`, minus infinity where it cannot go. Read-only."""
        return self._candidates(pod).totals(pod)

    def fits_somewhere(self, pod: PodClass) -> bool:
        """Whether any machine has room for `pod` now."""
        found = self._candidates(pod)
        return not found.full and bool(found.totals(pod).max() > NEVER)

    def _candidates(self, pod: PodClass) -> Candidates:
        profile = self.profile_of(pod)
        mark = pod.mark if profile.by_labels else pod.alone
        found = self._kept.get(mark)
        if found is None:
            found = self._kept[mark] = Candidates(self.snapshot, pod, profile)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(mark)
        return found

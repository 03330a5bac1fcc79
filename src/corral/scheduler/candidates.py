"""For one equivalence class: which machines pass and how good each is, kept fresh row by row.

One array holds it all: the total score of each machine, or minus infinity where the class cannot go. After a pod was
placed, only the rows that changed are worked out again; after a change of the machines themselves, everything is.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import PORTS, RESOURCES, SHAPE_FILTERS, Profile
from corral.scheduler.snapshot import Snapshot

_NEVER = -np.inf
_KEPT = 256
# Working out rows one by one costs about this share of working out all of them.
_MANY = 8


class Candidates:
    """The machines as one class sees them."""

    def __init__(self, snapshot: Snapshot, pod: PodClass, profile: Profile) -> None:
        self._snapshot = snapshot
        self._pod = pod
        self._profile = profile
        self._shape = -1
        self._seen = 0
        self._allowed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._base: NDArray[np.float64] = np.zeros(0)
        self.total: NDArray[np.float64] = np.zeros(0)

    def refresh(self) -> NDArray[np.float64]:
        """The total scores as of now."""
        snapshot = self._snapshot
        if self._shape != snapshot.shape:
            self._rebuild()
            return self.total
        if self._seen == snapshot.used.end:
            return self.total
        changed = snapshot.used.since(self._seen)
        self._seen = snapshot.used.end
        if changed is None or len(changed) > len(self.total) // _MANY:
            self.total = self._judge(slice(None))
        else:
            rows = np.fromiter(changed, dtype=np.intp, count=len(changed))
            self.total[rows] = self._judge(rows)
        return self.total

    def _rebuild(self) -> None:
        snapshot, pod = self._snapshot, self._pod
        allowed = snapshot.alive.copy()
        for rule in SHAPE_FILTERS:
            mask = rule.passes(snapshot, pod)
            if mask is not None:
                allowed &= mask
        base = np.zeros(len(allowed))
        for score, weight in self._profile.shape:
            scores = score.score(snapshot, pod)
            if scores is not None:
                base += weight * scores
        self._allowed, self._base = allowed, base
        self._shape, self._seen = snapshot.shape, snapshot.used.end
        self.total = self._judge(slice(None))

    def _judge(self, rows: slice | NDArray[np.intp]) -> NDArray[np.float64]:
        snapshot, pod = self._snapshot, self._pod
        passes = RESOURCES.fits(snapshot, pod, rows) & self._allowed[rows]
        ports = PORTS.passes(snapshot, pod)
        if ports is not None:
            passes &= ports[rows]
        share = (snapshot.load[rows] + pod.load) / np.maximum(snapshot.allocatable[rows, :2], 1)
        np.minimum(share, 1.0, out=share)
        total = self._base[rows].copy()
        for score, weight in self._profile.fill:
            total += weight * score.score(share)
        return np.where(passes, total, _NEVER)


class CandidateCache:
    """The candidates of the classes asked for lately."""

    def __init__(self, snapshot: Snapshot, profile: Profile) -> None:
        self.snapshot = snapshot
        self.profile = profile
        self._kept: OrderedDict[PodClass, Candidates] = OrderedDict()

    def totals(self, pod: PodClass) -> NDArray[np.float64]:
        """The total scores of all rows for `pod`, minus infinity where it cannot go. Read-only."""
        found = self._kept.get(pod)
        if found is None:
            found = self._kept[pod] = Candidates(self.snapshot, pod, self.profile)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(pod)
        return found.refresh()

    def fits_somewhere(self, pod: PodClass) -> bool:
        """Whether any machine has room for `pod` now."""
        return bool(self.totals(pod).max(initial=_NEVER) > _NEVER)

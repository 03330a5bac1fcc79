"""For one equivalence class: which machines pass and how good each is, kept fresh row by row.

One array holds most of it: the score of each machine by how full it is, or minus infinity where the class cannot go.
After a pod was placed, only the rows that changed are worked out again; after a change of the machines themselves,
everything is. What pods elsewhere have a say in is mostly a matter of domains: the best machine is then found by blocks
of machines (`peaks.py`). Where scores are relative to the machines that pass, all of them are worked out, on top of
that array, for each decision that it matters to.
"""

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import Domains
from corral.scheduler.peaks import WIDTH, Layout, Peaks
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import RESOURCES, Profile
from corral.scheduler.scores import NEVER, ShapeScore
from corral.scheduler.snapshot import Rows, Snapshot

_KEPT = 256
# Working out rows one by one costs about this share of working out all of them.
_MANY = 8
# Up to so many rows, one look at all of them is quicker than keeping blocks: without rules on domains, and with some.
_FEW = 16_384
_FEW_IN_DOMAINS = 4_096
_ZERO = np.zeros(1)
_NO_OTHERS: Mapping[str, Profile] = {}


class Candidates:
    """The machines as pods see them that differ in their peers only."""

    def __init__(self, snapshot: Snapshot, pod: PodClass, profile: Profile, layouts: "Layouts") -> None:
        self._snapshot = snapshot
        self._pod = pod
        self._profile = profile
        self._row_scores = profile.row_scores(pod)
        self._layouts = layouts
        self._peaks: dict[str, Peaks] = {}
        """By the topology of the layout."""
        self._shape = -1, -1
        self._seen = 0
        self._allowed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._counts: list[tuple[ShapeScore, float, NDArray[np.float64]]] = []
        self._scores: NDArray[np.float64] = np.full(1, NEVER)
        """One more than there are rows, for `Peaks`; see `_fill`."""
        self._end = 0
        """Behind the last row that is allowed."""

    @property
    def _fill(self) -> NDArray[np.float64]:
        return self._scores[:-1]

    @property
    def full(self) -> bool:
        """Whether no machine has room, whatever pods are near."""
        self._refresh()
        return bool(self._fill.max() == NEVER)

    def choose(self, pod: PodClass, rng: random.Random) -> int | None:
        """The row that is best for `pod`, drawn from those that are equally good; None if it can go nowhere."""
        self._refresh()
        domains = self._domains(pod)
        if domains is not None and len(self._fill) > (_FEW_IN_DOMAINS if domains else _FEW):
            row, certain = self._draw(domains, rng)
            if certain:
                return row
        totals = self.totals(pod) if domains is None or domains else self._scores[: self._end]
        best = totals[totals.argmax()]
        if best == NEVER:
            return None
        ties = (totals == best).nonzero()[0]
        return int(ties[0] if len(ties) == 1 else ties[rng.randrange(len(ties))])

    def _domains(self, pod: PodClass) -> Sequence[Domains] | None:
        """Where the pod may go as far as others have a say, if that is a matter of domains, and no score is but that of
        the row itself; else None."""
        if self._counts or len(self._profile.reticent) < len(self._profile.peers):
            return None
        domains: list[Domains] = []
        for by_machine in self._profile.by_machine:
            if by_machine.passes(self._snapshot, pod) is not None:
                return None
        for by_domain in self._profile.by_domain:
            domains += by_domain.domains(self._snapshot, pod)
        if any(score.matters(self._snapshot, pod, domains) for score in self._profile.reticent):
            return None
        return domains

    def _draw(self, domains: Sequence[Domains], rng: random.Random) -> tuple[int | None, bool]:
        # Blocks by a topology of few domains, if there is one: whatever else is asked is asked of single rows.
        by = next((one.key for one in domains if len(one.passes) * WIDTH <= len(one.cells)), "")
        blocks = [one.passes for one in domains if one.key == by]
        rest = [(one.passes, one.cells) for one in domains if one.key != by]
        return self._peaks_by(by).draw(
            self._scores,
            np.logical_and.reduce(blocks) if blocks else None,
            (lambda row: all(passes[cells[row]] for passes, cells in rest)) if rest else None,
            rng,
        )

    def _peaks_by(self, key: str) -> Peaks:
        peaks = self._peaks.get(key)
        if peaks is None:
            peaks = self._peaks[key] = Peaks(self._layouts.by(key), self._scores)
        return peaks

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
            self._fill[:] = self._judge(slice(None))
            self._peaks.clear()
        else:
            rows = np.fromiter(changed, dtype=np.intp, count=len(changed))
            self._scores[rows] = self._judge(rows)
            for peaks in self._peaks.values():
                peaks.update(self._scores, rows)

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
        self._end = int(allowed.nonzero()[0].max(initial=0)) + 1
        self._shape, self._seen = self._current(), snapshot.used.end
        self._scores = np.append(self._judge(slice(None)), NEVER)
        self._peaks.clear()

    def _judge(self, rows: Rows) -> NDArray[np.float64]:
        snapshot, pod = self._snapshot, self._pod
        passes = RESOURCES.fits(snapshot, pod, rows) & self._allowed[rows]
        for rule in self._profile.row_filters:
            mask = rule.fits(snapshot, pod, rows)
            if mask is not None:
                passes &= mask
        share = (snapshot.load[rows] + pod.load) * snapshot.scale[rows]
        np.minimum(share, 1.0, out=share)
        total: NDArray[np.float64] = _ZERO
        for score, weight in self._row_scores:
            total = _plus(total, weight, score.score(snapshot, pod, rows, share))
        return np.where(passes, total, NEVER)


def _plus(total: NDArray[np.float64], weight: float, scores: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if scores is None:
        return total
    return total + scores if weight == 1.0 else total + weight * scores


class Layouts:
    """The layouts of all rows by a topology, as of now; the empty topology has one domain."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._shape = -1
        self._known: dict[str, Layout] = {}

    def by(self, key: str) -> Layout:
        """The layout whose blocks share the value of the label `key`."""
        if self._shape != self._snapshot.shape:
            self._known.clear()
            self._shape = self._snapshot.shape
        found = self._known.get(key)
        if found is None:
            none = np.zeros(len(self._snapshot.alive), dtype=np.int32)
            found = self._known[key] = Layout(self._snapshot.labels.cells(key)[0] if key else none)
        return found


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
        self._layouts = Layouts(snapshot)

    def choose(self, pod: PodClass, rng: random.Random) -> int | None:
        """The row that is best for `pod`, drawn from those that are equally good; None if it can go nowhere."""
        return self._candidates(pod).choose(pod, rng)

    def fits(self, pod: PodClass, row: int) -> bool:
        """Whether `pod` can go to the machine of `row`."""
        return bool(self.totals(pod)[row] > NEVER)

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
            found = self._kept[mark] = Candidates(self.snapshot, pod, profile, self._layouts)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(mark)
        return found

"""Pods of a group are spread over domains: none may get far ahead of the emptiest."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.taints import untolerated
from corral.scheduler.filters import Domains, all_of
from corral.scheduler.filters.node_affinity import affinity_matches
from corral.scheduler.peers import SpreadConstraint
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.ties import Eligible, Tie

_UNEVEN = "node(s) didn't match pod topology spread constraints"
_NO_DOMAIN = f"{_UNEVEN} (missing required label)"


class TopologySpread:
    """`topologySpreadConstraints` that say DoNotSchedule."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return all_of(self.domains(snapshot, pod))

    def domains(self, snapshot: Snapshot, pod: PodClass) -> Iterator[Domains]:
        for constraint in pod.peers.spread:
            room = _room(snapshot, constraint)
            yield Domains(constraint.tie.key, constraint.tie.chosen.cells, room)

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        reasons = {_NO_DOMAIN: 0, _UNEVEN: 0}
        for constraint in pod.peers.spread:
            room = _room(snapshot, constraint)
            cells = constraint.tie.chosen.cells[rows]
            reasons[_NO_DOMAIN] += int((cells == 0).sum())
            reasons[_UNEVEN] += int((~room[cells] & (cells > 0)).sum())
            rows = rows[room[cells]]
        return {reason: count for reason, count in reasons.items() if count}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        for constraint in pod.peers.spread:
            room = _room(snapshot, constraint)
            cell = constraint.tie.chosen.cells[row]
            if not room[cell]:
                return [_UNEVEN if cell else _NO_DOMAIN]
        return []


def _room(snapshot: Snapshot, constraint: SpreadConstraint) -> NDArray[np.bool_]:
    """By the number of a domain: whether one more pod there keeps within `maxSkew` of the emptiest domain."""
    sums = spread_sums(snapshot, constraint.tie)
    domains = constraint.tie.chosen.domains
    lowest = int(sums[domains].min()) if len(domains) >= max(constraint.min_domains, 1) else 0
    room: NDArray[np.bool_] = sums <= constraint.max_skew + lowest - constraint.includes_self
    room[0] = False
    return room


def spread_sums(snapshot: Snapshot, tie: Tie) -> NDArray[np.int64]:
    """How many pods chosen by `tie` are in each domain, on the machines that count."""
    return tie.chosen.refresh(snapshot.shape, snapshot.labels, tie.key, lambda: _eligible_rows(snapshot, tie.eligible))


def _eligible_rows(snapshot: Snapshot, eligible: Eligible | None) -> NDArray[np.bool_]:
    mask = snapshot.alive.copy()
    if eligible is None:
        return mask
    for key in eligible.keys:
        mask &= snapshot.labels.cells(key)[0] > 0
    chosen = affinity_matches(snapshot, eligible.node_selector, eligible.affinity)
    if chosen is not None:
        mask &= chosen
    if eligible.tolerations is not None:
        table = [untolerated(eligible.tolerations, taints) is None for taints in snapshot.taint_sets]
        mask &= np.array(table, dtype=np.bool_)[snapshot.taints]
    return mask

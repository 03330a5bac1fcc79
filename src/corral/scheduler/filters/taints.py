"""A tainted machine takes only pods that tolerate its taints."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.taints import Taint, untolerated
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot


class Taints:
    """`spec.taints` of the Node against the pod's tolerations. Machines with the same taints are judged once."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        if len(snapshot.taint_sets) == 1:
            return None
        table = np.array(
            [untolerated(pod.tolerations, taints) is None for taints in snapshot.taint_sets], dtype=np.bool_
        )
        return table[snapshot.taints]

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        reasons: Counter[str] = Counter()
        for number, count in zip(*np.unique(snapshot.taints[rows], return_counts=True), strict=True):
            reasons[_reason(untolerated(pod.tolerations, snapshot.taint_sets[number]))] += int(count)
        return reasons

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        taint = untolerated(pod.tolerations, snapshot.taint_sets[snapshot.taints[row]])
        return [] if taint is None else [_reason(taint)]


def _reason(taint: Taint | None) -> str:
    return f"node(s) had untolerated taint {taint}"

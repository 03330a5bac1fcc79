"""A cordoned machine takes no new pods, unless they tolerate its being cordoned."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.taints import Taint
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot

_REASON = "node(s) were unschedulable"
CORDONED = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Unschedulable:
    """`spec.unschedulable` of the Node."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return None if pod.tolerates(CORDONED) else ~snapshot.unschedulable

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {_REASON: len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        refused = snapshot.unschedulable[row] and not pod.tolerates(CORDONED)
        return [_REASON] if refused else []

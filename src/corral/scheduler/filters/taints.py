"""A tainted machine takes only pods that tolerate its taints."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.taints import untolerated
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot

_REASON = "node(s) had untolerated taint"


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
        # Which taints is nothing that everybody who sees the pod may know (kubernetes/kubernetes#134740).
        return {f"{_REASON}(s)": len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        taint = untolerated(pod.tolerations, snapshot.taint_sets[snapshot.taints[row]])
        return [] if taint is None else [f"{_REASON} {taint}"]

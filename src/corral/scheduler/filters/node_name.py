"""A pod that names its machine goes there or nowhere."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Snapshot

_REASON = "node(s) didn't match the requested node name"


class NodeName:
    """`spec.nodeName` of the pod."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        if not pod.node_name:
            return None
        mask = np.zeros(len(snapshot.alive), dtype=np.bool_)
        row = snapshot.row(pod.node_name)
        if row is not None:
            mask[row] = True
        return mask

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {_REASON: len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        if not pod.node_name or snapshot.machine(row).name == pod.node_name:
            return []
        return [_REASON]

"""A port of the machine belongs to one pod at a time."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Rows, Snapshot

_REASON = "node(s) didn't have free ports for the requested pod ports"
_EVERY_ADDRESS = ("0.0.0.0", "")


class Ports:
    """`hostPort` of the pod's containers: the same protocol and port clash unless their addresses differ."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        if not pod.ports:
            return None
        mask = np.ones(len(snapshot.alive), dtype=np.bool_)
        for port in pod.ports:
            for row, taken in snapshot.ports.get((port.protocol, port.port), {}).items():
                if any(_clash(port.ip, address) for address in taken):
                    mask[row] = False
        return mask

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        mask = self.passes(snapshot, pod)
        return None if mask is None else mask[rows]

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        return {_REASON: len(rows)}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        for port in pod.ports:
            taken = snapshot.ports.get((port.protocol, port.port), {}).get(row, Counter())
            if any(_clash(port.ip, address) for address in taken):
                return [_REASON]
        return []


def _clash(one: str, other: str) -> bool:
    return one == other or one in _EVERY_ADDRESS or other in _EVERY_ADDRESS

"""What a pod asks for must be free on the machine."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import PODS, Rows, Snapshot


class Resources:
    """Requests against allocatable amounts less what is requested already."""

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return self.fits(snapshot, pod, slice(None))

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_]:
        """`passes` for some rows only."""
        if isinstance(rows, slice):
            free = snapshot.allocatable[rows] - snapshot.requested[rows]
        else:
            free = snapshot.allocatable.take(rows, axis=0) - snapshot.requested.take(rows, axis=0)
        fits: NDArray[np.bool_] = np.logical_and.reduce(free.take(pod.columns, axis=1) >= pod.amounts, axis=1)
        return fits

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        reasons: dict[str, int] = {}
        for name, amount in pod.requests.items():
            column = snapshot.columns[name]
            lacking = snapshot.requested[rows, column] + amount > snapshot.allocatable[rows, column]
            reasons[reason_of(name)] = int(lacking.sum())
        return {reason: count for reason, count in reasons.items() if count}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        return [reason_of(name) for name in self.missing(snapshot, pod, row)]

    def missing(self, snapshot: Snapshot, pod: PodClass, row: int) -> dict[str, int]:
        """How much of each resource the machine lacks: cpu in thousandths, everything else in whole units."""
        lacking: dict[str, int] = {}
        for name, amount in pod.requests.items():
            column = snapshot.columns[name]
            lack = amount - int(snapshot.allocatable[row, column] - snapshot.requested[row, column])
            if lack > 0:
                lacking[name] = lack
        return lacking


def reason_of(resource: str) -> str:
    """What a machine that lacks the resource is refused for."""
    return "Too many pods" if resource == PODS else f"Insufficient {resource}"

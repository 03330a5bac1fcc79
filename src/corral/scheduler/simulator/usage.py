"""How full the machines are, and how much of what is free is of no use. Pure.

Stranded is what is free where it cannot be had: for a pod drawn at random from those of the load that ask for the
resource, the free amount on machines that the pod does not fit on. This is the fragmentation measure of FGD (Weng et
al., USENIX ATC'23, section 3.1) for every resource, counting only resources (not labels, taints or other pods).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import PODS, Snapshot

# More kinds of pods than this change the average by less than it is rounded to.
_SAMPLE = 400


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """One resource over all machines: cpu in thousandths, everything else in whole units."""

    name: str
    allocatable: int
    used: int
    stranded: int

    @property
    def free(self) -> int:
        """What is not used."""
        return self.allocatable - self.used

    def share(self, amount: int) -> float:
        """`amount` as a part of what there is; 0 if there is nothing."""
        return amount / self.allocatable if self.allocatable else 0.0


def measure(snapshot: Snapshot, load: Iterable[tuple[PodClass, int]]) -> list[ResourceUse]:
    """Every resource that a machine offers or a pod takes.

    Args:
        load: classes of pods and how many pods each has, as what stranded amounts are judged by.
    """
    alive = snapshot.alive
    allocatable, used = snapshot.allocatable[alive].sum(axis=0), snapshot.requested[alive].sum(axis=0)
    stranded = _stranded(snapshot, load)
    return [
        ResourceUse(name, int(allocatable[column]), int(used[column]), round(stranded.get(name, 0.0)))
        for name, column in snapshot.columns.items()
        if allocatable[column] or used[column]
    ]


def machines_in_use(snapshot: Snapshot) -> int:
    """How many machines have a pod."""
    return int((snapshot.requested[snapshot.alive, snapshot.columns[PODS]] > 0).sum())


def shares(snapshot: Snapshot, resource: str) -> NDArray[np.float64]:
    """What part of each machine's `resource` is requested, for the machines that have any."""
    column = snapshot.columns.get(resource)
    if column is None:
        return np.zeros(0)
    offered = snapshot.alive & (snapshot.allocatable[:, column] > 0)
    taken: NDArray[np.float64] = snapshot.requested[offered, column] / snapshot.allocatable[offered, column]
    return taken


def _stranded(snapshot: Snapshot, load: Iterable[tuple[PodClass, int]]) -> Mapping[str, float]:
    weights: dict[tuple[tuple[str, int], ...], int] = {}
    for pod, count in load:
        wanted = tuple(sorted(pod.requests.items()))
        weights[wanted] = weights.get(wanted, 0) + count
    kinds = sorted(weights)
    kinds = kinds[:: -(-len(kinds) // _SAMPLE) or 1]
    free = np.maximum(snapshot.allocatable[snapshot.alive] - snapshot.requested[snapshot.alive], 0)
    lost: dict[str, float] = {}
    asking: dict[str, int] = {}
    for wanted in kinds:
        columns = [snapshot.columns[name] for name, _ in wanted]
        misfit = (free[:, columns] < np.array([amount for _, amount in wanted])).any(axis=1)
        wasted, weight = free[misfit].sum(axis=0), weights[wanted]
        for (name, _), column in zip(wanted, columns, strict=True):
            lost[name] = lost.get(name, 0.0) + weight * float(wasted[column])
            asking[name] = asking.get(name, 0) + weight
    return {name: amount / asking[name] for name, amount in lost.items()}

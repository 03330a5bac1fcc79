"""How full the machines are, and how much of what is free is of no use. Pure.

Stranded is what is free where it cannot be had: for a pod drawn at random from those of the load that ask for the
resource, the free amount on machines that the pod does not fit on. This is the fragmentation measure of FGD (Weng et
al., USENIX ATC'23, section 3.1) for every resource, counting only resources (not labels, taints or other pods).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import GPU_MILLI, GPU_RESOURCES, WHOLE
from corral.scheduler.filters.devices import Devices
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import RESOURCES
from corral.scheduler.snapshot import PODS, Snapshot

# More kinds of pods than this change the average by less than it is rounded to.
_SAMPLE = 400
_DEVICES = Devices()
GPU = "gpu"


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """One resource over all machines: cpu and `GPU` in thousandths, everything else in whole units."""

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
    """Every resource that a machine offers or a pod takes; whole GPUs and parts of them are one resource, `GPU`.

    Args:
        load: classes of pods and how many pods each has, as what stranded amounts are judged by.
    """
    alive = np.flatnonzero(snapshot.alive)
    names, have, free = _amounts(snapshot, alive)
    lost, asking = np.zeros(len(names)), np.zeros(len(names))
    for pod, weight in _sample(load):
        fits = RESOURCES.fits(snapshot, pod, alive)
        devices = _DEVICES.fits(snapshot, pod, alive)
        wasted = np.maximum(free[~(fits if devices is None else fits & devices)], 0).sum(axis=0)
        asks = [index for index, name in enumerate(names) if name in pod.requests or (name == GPU and pod.gpu)]
        lost[asks] += weight * wasted[asks]
        asking[asks] += weight
    total, used = have.sum(axis=0), (have - free).sum(axis=0)
    stranded = np.round(lost / np.maximum(asking, 1))
    return [
        ResourceUse(name, int(total[index]), int(used[index]), int(stranded[index]))
        for index, name in enumerate(names)
        if total[index] or used[index]
    ]


def _amounts(snapshot: Snapshot, rows: NDArray[np.intp]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Resources, and what each machine has of them and has left."""
    plain = {name: column for name, column in snapshot.columns.items() if name not in (*GPU_RESOURCES, GPU_MILLI)}
    columns = list(plain.values())
    have = snapshot.allocatable[rows][:, columns]
    free = have - snapshot.requested[rows][:, columns]
    devices = snapshot.devices
    gpus = np.array([devices.counts[rows].astype(np.int64) * WHOLE, devices.free[rows].sum(axis=1)]).T
    return [*plain, GPU], np.hstack([have, gpus[:, :1]]), np.hstack([free, gpus[:, 1:]])


def _sample(load: Iterable[tuple[PodClass, int]]) -> list[tuple[PodClass, int]]:
    """Classes that differ in what they ask for, and how many pods ask for that; few enough, of all sizes."""
    kinds: dict[tuple[tuple[str, int], ...], tuple[PodClass, int]] = {}
    for pod, count in load:
        wanted = tuple(sorted(pod.requests.items()))
        kinds[wanted] = pod, kinds.get(wanted, (pod, 0))[1] + count
    ranked = [kinds[wanted] for wanted in sorted(kinds)]
    return ranked[:: -(-len(ranked) // _SAMPLE) or 1]


def capacity(snapshot: Snapshot) -> dict[str, int]:
    """What all machines have of each resource that any has."""
    return {use.name: use.allocatable for use in measure(snapshot, ()) if use.allocatable}


def taken(pod: PodClass) -> dict[str, int]:
    """What a pod of the class takes, with its GPUs as `GPU`."""
    amounts = {name: amount for name, amount in pod.requests.items() if name not in (*GPU_RESOURCES, GPU_MILLI)}
    return amounts if pod.gpu is None else {**amounts, GPU: pod.gpu.milli or pod.gpu.count * WHOLE}


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

"""Which part of which GPU of a machine is taken: thousandths, rows x devices.

A pod that asks for GPUs gets its devices when it is placed, by best fit: whole ones from the lowest free index, a part
where the least is left. From then on they belong to its class (`PodClass.devices`), so that taking the pod out and
putting it back, binding it and reading it again after a restart all give the same devices.

Others may have bound pods where there was no room, or machines may have shrunk: more than all of a device can be taken.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import GPU_RESOURCES, WHOLE, GpuAsk
from corral.scheduler.outlook import Outlook
from corral.scheduler.podclass import PodClass


@dataclass
class Typical:
    """Which pods are typical of a cell, and what follows for its machines."""

    pods: Mapping[PodClass, float] = field(default_factory=dict)
    """How often each comes; all of them ask for GPUs."""
    given: bool = False
    learned: int = 0
    """The number of pods that `pods` were learned from."""
    shape: int = -1
    """The snapshot's when the rest was worked out."""
    outlook: Outlook | None = None
    groups: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, dtype=np.int16))
    """Each row's group of machines that are open to the same pods."""


class Devices:
    """The devices of all rows. Public attributes are for reading."""

    def __init__(self, rows: int) -> None:
        self.kinds: NDArray[np.int8] = np.zeros(rows, dtype=np.int8)
        """Whose devices a row has: 1 + the index in GPU_RESOURCES, or 0."""
        self.counts: NDArray[np.int16] = np.zeros(rows, dtype=np.int16)
        self.free: NDArray[np.int16] = np.zeros((rows, 0), dtype=np.int16)
        """What is left of each device; 0 where there is none. At least 0."""
        self.held: Counter[bytes] = Counter()
        """How many pods there are of each class that asks for GPUs, by `PodClass.alone`."""
        self.examples: dict[bytes, PodClass] = {}
        """Some class for each of `held`."""
        self.typical = Typical()
        self._taken: NDArray[np.int32] = np.zeros((rows, 0), dtype=np.int32)

    def __bool__(self) -> bool:
        """Whether any machine ever had a device, so that there is anything to look at."""
        return bool(self.free.shape[1])

    def resize(self, rows: int) -> None:
        """Make room for more rows, without devices."""
        more = rows - len(self.kinds)
        self.kinds = np.concatenate([self.kinds, np.zeros(more, dtype=np.int8)])
        self.counts = np.concatenate([self.counts, np.zeros(more, dtype=np.int16)])
        self.free = np.pad(self.free, ((0, more), (0, 0)))
        self._taken = np.pad(self._taken, ((0, more), (0, 0)))

    def set(self, row: int, resource: str, count: int) -> bool:
        """The machine of `row` has so many devices of that kind; ("", 0): none. Whether the kind is another one."""
        self._widen(count)
        before = int(self.kinds[row])
        self.kinds[row] = 1 + GPU_RESOURCES.index(resource) if resource else 0
        self.counts[row] = count
        self._refresh(row)
        return bool(before != self.kinds[row])

    def are(self, rows: "slice | NDArray[np.intp]", resource: str) -> NDArray[np.bool_]:
        """Which of `rows` have devices of that kind."""
        found: NDArray[np.bool_] = self.kinds[rows] == 1 + GPU_RESOURCES.index(resource)
        return found

    def choose(self, row: int, ask: GpuAsk) -> tuple[int, ...]:
        """The devices that a pod gets on `row`: those that fit best, or where nothing fits the emptiest ones."""
        if ask.resource and self.kinds[row] != 1 + GPU_RESOURCES.index(ask.resource):
            return ()
        free: list[int] = self.free[row, : self.counts[row]].tolist()
        fitting = [index for index, left in enumerate(free) if left >= ask.milli]
        if ask.milli and fitting:
            return (min(fitting, key=lambda index: free[index]),)
        emptiest = sorted(range(len(free)), key=lambda index: -free[index])
        return tuple(sorted(emptiest[: ask.count or 1]))

    def choose_without(self, row: int, ask: GpuAsk, ending: Iterable[PodClass]) -> tuple[int, ...]:
        """The devices that a pod will get on `row` once the pods that are ending have left."""
        leaving = [(pod.devices, pod.gpu) for pod in ending if pod.gpu is not None]
        for devices, theirs in leaving:
            self._occupy(row, devices, theirs, -1)
        chosen = self.choose(row, ask)
        for devices, theirs in leaving:
            self._occupy(row, devices, theirs, 1)
        return chosen

    def take(self, row: int, pod: PodClass, ask: GpuAsk, sign: int) -> None:
        """What is asked for of each of the pod's devices on `row` is taken (1) or given back (-1)."""
        self.held[pod.alone] += sign
        if not self.held[pod.alone]:
            del self.held[pod.alone], self.examples[pod.alone]
        else:
            self.examples.setdefault(pod.alone, pod)
        self._occupy(row, pod.devices, ask, sign)

    def give(self, row: int, devices: Sequence[int], ask: GpuAsk) -> None:
        """A pod that is on `row` already gets its devices."""
        self._occupy(row, devices, ask, 1)

    def _occupy(self, row: int, devices: Sequence[int], ask: GpuAsk, sign: int) -> None:
        if devices:
            self._widen(max(devices) + 1)
            self._taken[row, list(devices)] += sign * (ask.milli or WHOLE)
            self._refresh(row)

    def taken(self, row: int) -> dict[int, int]:
        """What is taken of the devices of which anything is."""
        return {index: amount for index, amount in enumerate(self._taken[row].tolist()) if amount}

    def overcommitted(self) -> bool:
        """Whether more than all of some device is taken, or something of one that is not there."""
        there = np.arange(self._taken.shape[1]) < self.counts[:, None]
        return bool((self._taken > there * WHOLE).any())

    def _refresh(self, row: int) -> None:
        count = self.counts[row]
        self.free[row] = 0
        self.free[row, :count] = np.maximum(WHOLE - self._taken[row, :count], 0)

    def _widen(self, width: int) -> None:
        more = width - self.free.shape[1]
        if more > 0:
            self.free = np.pad(self.free, ((0, 0), (0, more)))
            self._taken = np.pad(self._taken, ((0, 0), (0, more)))

"""Whole GPUs must be untouched, and a part of a GPU must be free on a single device."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import GPU_MILLI, WHOLE, GpuAsk
from corral.scheduler.podclass import PodClass
from corral.scheduler.snapshot import Rows, Snapshot


class Devices:
    """`nvidia.com/gpu`, `amd.com/gpu` and `corral.dev/gpu-milli` device by device.

    The sums are the matter of the rule of resources. A machine on which the devices of a vendor are not told apart has
    only sums.
    """

    def passes(self, snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_] | None:
        return self.fits(snapshot, pod, slice(None))

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_] | None:
        ask = pod.gpu
        if ask is None or not snapshot.devices:
            return None
        fits: NDArray[np.bool_] = self._most(snapshot, ask, rows) >= (ask.milli or ask.count)
        if ask.resource:
            fits |= ~snapshot.devices.are(rows, ask.resource)
        return fits

    def tally(self, snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> Mapping[str, int]:
        if pod.gpu is None:
            return {}
        enough = int(np.count_nonzero(_enough_in_sum(snapshot, pod.gpu, rows)))
        counts = {_reason(pod.gpu, enough=True): enough, _reason(pod.gpu, enough=False): len(rows) - enough}
        return {reason: count for reason, count in counts.items() if count}

    def explain(self, snapshot: Snapshot, pod: PodClass, row: int) -> list[str]:
        if pod.gpu is None or not self.missing(snapshot, pod, row):
            return []
        name = _name(pod.gpu)
        column = snapshot.columns[name]
        if snapshot.requested[row, column] + pod.requests[name] > snapshot.allocatable[row, column]:
            # The rule of resources says so.
            return []
        return [_reason(pod.gpu, enough=bool(_enough_in_sum(snapshot, pod.gpu, np.array([row]))[0]))]

    def missing(self, snapshot: Snapshot, pod: PodClass, row: int) -> dict[str, int]:
        """How many more untouched devices the pod would need, or thousandths on the device where most is free."""
        at = np.array([row])
        fits = self.fits(snapshot, pod, at)
        if pod.gpu is None or fits is None or fits[0]:
            return {}
        return {_name(pod.gpu): (pod.gpu.milli or pod.gpu.count) - int(self._most(snapshot, pod.gpu, at)[0])}

    @staticmethod
    def _most(snapshot: Snapshot, ask: GpuAsk, rows: Rows) -> NDArray[np.int64]:
        """The most that could be had of each row: whole devices, or thousandths of one."""
        free = snapshot.devices.free[rows]
        most: NDArray[np.int64] = free.max(axis=1) if ask.milli else np.count_nonzero(free == WHOLE, axis=1)
        return most


def _name(ask: GpuAsk) -> str:
    return ask.resource or GPU_MILLI


def _enough_in_sum(snapshot: Snapshot, ask: GpuAsk, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    enough: NDArray[np.bool_] = snapshot.devices.free[rows].sum(axis=1) >= (ask.milli or ask.count * WHOLE)
    return enough


def _reason(ask: GpuAsk, *, enough: bool) -> str:
    lack = f"Insufficient {_name(ask)}"
    return (
        f"{lack} (enough in sum, but not on {'one device' if ask.milli else 'untouched devices'})" if enough else lack
    )

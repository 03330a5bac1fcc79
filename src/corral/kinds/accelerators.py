"""How pods ask for GPUs, and how it is written down which they got.

Whole devices are extended resources (`nvidia.com/gpu: 2`), as the vendors' device plugins offer them. A part of one
device is the extended resource `corral.dev/gpu-milli`, in thousandths of a device, or the annotation `gpu-fraction` of
NVIDIA's KAI scheduler. A machine need not offer thousandths: it has 1000 for each device.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from corral.base import quantities
from corral.kinds.types import Obj

GPU_RESOURCES: Final = ("nvidia.com/gpu", "amd.com/gpu")
GPU_MILLI: Final = "corral.dev/gpu-milli"
WHOLE: Final = 1000
FRACTION_ANNOTATION: Final = "gpu-fraction"
DEVICES_ANNOTATION: Final = "corral.dev/gpu-devices"
"""On a pod that is bound: the indexes of its devices, `3` or `0,1`."""

# No machine has more; an annotation is anybody's text.
_MOST_DEVICES = 1024


@dataclass(frozen=True, slots=True)
class GpuAsk:
    """What a pod wants of one kind of device: `count` whole ones, or `milli` thousandths of a single one."""

    resource: str
    """Empty: a part of a device of any vendor."""
    count: int
    milli: int


def gpu_fraction(pod: Obj) -> int:
    """The thousandths of a device that the annotation `gpu-fraction` asks for; 0 if it is not there.

    Raises:
        ValueError: it is no number above 0 and up to 1.
    """
    text = ((pod.get("metadata") or {}).get("annotations") or {}).get(FRACTION_ANNOTATION)
    if text is None:
        return 0
    try:
        milli = quantities.milli(text)
    except ValueError:
        milli = 0
    if not 0 < milli <= WHOLE:
        raise ValueError(f"annotation {FRACTION_ANNOTATION}: {text!r}: must be a number above 0 and at most 1")
    return milli


def gpu_ask(requests: Mapping[str, int]) -> GpuAsk | None:
    """What of the GPUs is asked for by `requests` (as of `pod_requests`); None if nothing.

    Raises:
        ValueError: it is more than one thing, or a part that is larger than a device.
    """
    whole = [(name, requests[name]) for name in GPU_RESOURCES if requests.get(name)]
    milli = requests.get(GPU_MILLI, 0)
    if len(whole) + bool(milli) > 1:
        names = ", ".join([*(name for name, _ in whole), *([GPU_MILLI] if milli else ())])
        raise ValueError(f"{names}: a pod asks for whole GPUs of one vendor or for a part of one GPU, not for both")
    if milli > WHOLE:
        raise ValueError(f"{GPU_MILLI}: {milli}: at most {WHOLE} (one device); ask for whole GPUs: {GPU_RESOURCES[0]}")
    if milli:
        return GpuAsk("", 0, milli)
    return GpuAsk(whole[0][0], whole[0][1], 0) if whole else None


def with_gpu_milli(allocatable: Mapping[str, int]) -> dict[str, int]:
    """What a machine has, with thousandths for the devices of the vendor whose devices are told apart."""
    resource, count = device_kind(allocatable)
    return {**allocatable, GPU_MILLI: count * WHOLE} if resource else dict(allocatable)


def device_kind(allocatable: Mapping[str, int]) -> tuple[str, int]:
    """Which devices of a machine are told apart, and how many there are; ("", 0) if it has none.

    On a machine with devices of several vendors these are those of the first; the others are merely counted.
    """
    for name in GPU_RESOURCES:
        if allocatable.get(name, 0) > 0:
            return name, min(allocatable[name], _MOST_DEVICES)
    return "", 0


def read_devices(pod: Obj) -> tuple[int, ...]:
    """The indexes of the devices that a bound pod got; empty if nobody has written them down or they make no sense."""
    text = (pod["metadata"].get("annotations") or {}).get(DEVICES_ANNOTATION) or ""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and len(part) <= 4 for part in parts):
        return ()
    devices = sorted({int(part) for part in parts})
    return tuple(devices) if devices[-1] < _MOST_DEVICES else ()


def devices_text(devices: Iterable[int]) -> str:
    """`devices` as the annotation has them."""
    return ",".join(str(index) for index in devices)

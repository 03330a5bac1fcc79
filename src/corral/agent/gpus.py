"""NVIDIA's devices on this machine: how many there are, and which of them a container sees.

The scheduler has chosen a pod's devices and written them on it. Its containers share them out in the order of the
spec; one that asks for a part of a device, or belongs to a pod that asks for it by annotation, sees that device.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from corral.kinds.accelerators import GPU_MILLI, gpu_fraction, read_devices
from corral.kinds.podspec import amounts
from corral.kinds.types import Obj

NVIDIA = "nvidia.com/gpu"
VISIBLE = "NVIDIA_VISIBLE_DEVICES"
"""What NVIDIA's container toolkit and images go by: indexes, separated by commas."""
_DEVICE = re.compile(r"nvidia[0-9]+")
# What the driver's libraries need besides the device itself, where it is there.
_CONTROL = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")


def count(directory: Path = Path("/dev")) -> int:
    """How many devices there are in `directory`."""
    try:
        return sum(bool(_DEVICE.fullmatch(entry.name)) for entry in directory.iterdir())
    except OSError:
        return 0


def paths(devices: Iterable[int]) -> tuple[str, ...]:
    """The device nodes that a container with these devices uses; not all of them need exist."""
    own = [f"/dev/nvidia{index}" for index in devices]
    return (*own, *(f"/dev/{name}" for name in _CONTROL)) if own else ()


def seen_by(pod: Obj, container: Obj) -> tuple[int, ...]:
    """The indexes of the devices that `container` sees."""
    devices = read_devices(pod)
    if gpu_fraction(pod) or _asks(container).get(GPU_MILLI):
        return devices[:1]
    for other in pod["spec"].get("containers") or ():
        wanted = _asks(other).get(NVIDIA, 0)
        if other["name"] == container["name"]:
            return devices[:wanted]
        devices = devices[wanted:]
    # Containers that run before the others may use what these will.
    return read_devices(pod)[: _asks(container).get(NVIDIA, 0)]


def _asks(container: Obj) -> dict[str, int]:
    resources = container.get("resources") or {}
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})

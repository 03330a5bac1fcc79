"""What the scheduler knows of one machine, read from its Node."""

from collections.abc import Mapping
from dataclasses import dataclass

from corral.kinds import conditions
from corral.kinds.accelerators import with_gpu_milli
from corral.kinds.podspec import amounts
from corral.kinds.taints import Taint, read_taints
from corral.kinds.types import Obj

_BY_READINESS = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The part of a Node that placement depends on, apart from the amounts."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool


def read_machine(node: Obj) -> Machine:
    """The machine that `node` describes.

    A machine that reports itself not ready, or is no longer heard of, counts as tainted even before a controller has
    written the taint: binding to it would only strand the pod.
    """
    spec = node.get("spec") or {}
    metadata = node["metadata"]
    taints = list(read_taints(node))
    ready = conditions.get(node, "Ready")
    implied = _BY_READINESS.get(ready.get("status") or "") if ready is not None else None
    if implied is not None and not any(taint.key == implied and taint.effect == "NoSchedule" for taint in taints):
        taints.append(Taint(implied, "", "NoSchedule"))
    return Machine(metadata["name"], dict(metadata.get("labels") or {}), tuple(taints), bool(spec.get("unschedulable")))


def read_allocatable(node: Obj) -> dict[str, int]:
    """What pods may take of the machine: cpu in thousandths, everything else in whole units.

    Raises:
        ValueError: a quantity cannot be read.
    """
    status = node.get("status") or {}
    return with_gpu_milli(amounts(status.get("allocatable") or status.get("capacity")))

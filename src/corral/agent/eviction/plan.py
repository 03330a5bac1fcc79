"""Which pod leaves a machine that is short of memory, disk or processes, and in which words. Pure.

Order and words are the kubelet's (pkg/kubelet/eviction): who uses more than it asked for goes first, then by priority,
then by how much it is beyond its request. One rule is ours: a pod whose end would hardly help is spared. A disk that
somebody else has filled is not emptied by ending pods, one after the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from corral.agent.podstate.model import Rejection
from corral.agent.problems.pressure import DISK_SHARE, INODES_SHARE, MEMORY_FLOOR, Reading
from corral.base.quantities import format_bytes
from corral.kinds.podspec import amounts, pod_requests, priority, qos_class
from corral.kinds.taints import Taint, read_tolerations
from corral.kinds.types import Obj

CRITICAL: Final = 2_000_000_000
"""Pods of this priority and above are the machine's or the cell's own."""
GRACE: Final = 1
"""Seconds that an evicted pod gets: the machine is about to break."""
_HELP: Final = 10
"""A pod helps that uses at least so manyth of what is missing."""
_MEMORY_TAINT: Final = Taint("node.kubernetes.io/memory-pressure", "", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Shortage:
    """What a pressure condition is short of: the `resource` by its name in requests, and how much is missing."""

    condition: str
    resource: str
    missing: int
    threshold: str
    available: str


@dataclass(frozen=True, slots=True)
class Resident:
    """A pod on the machine and what its containers use of the resource that is short, by container name; what it uses
    beside them (volumes, logs) is under the empty name."""

    pod: Obj
    uses: dict[str, int]

    @property
    def use(self) -> int:
        return sum(self.uses.values())


def shortage(condition: str, reading: Reading) -> Shortage | None:
    """What is missing by `reading`, if anything is."""
    if condition == "MemoryPressure" and reading.memory_short:
        left = format_bytes(0 if reading.pods_over else reading.memory_available)
        return Shortage(condition, "memory", reading.memory_short, format_bytes(MEMORY_FLOOR), left)
    if condition == "DiskPressure" and reading.disk_short:
        threshold, left = format_bytes(int(reading.disk * DISK_SHARE)), format_bytes(reading.disk_available)
        return Shortage(condition, "ephemeral-storage", reading.disk_short, threshold, left)
    if condition == "DiskPressure" and reading.few_inodes:
        floor = int(reading.inodes * INODES_SHARE)
        return Shortage(condition, "inodes", floor - reading.inodes_free, str(floor), str(reading.inodes_free))
    if condition == "PIDPressure" and reading.few_processes:
        free, floor = reading.process_limit - reading.processes, reading.process_floor
        return Shortage(condition, "pids", floor - free, str(floor), str(free))
    return None


def victim(residents: Iterable[Resident], short: Shortage) -> Resident | None:
    """Who is to leave, or None if nobody's end would help."""
    useful = [one for one in residents if one.use and one.use * _HELP >= short.missing and not is_critical(one.pod)]
    return min(useful, key=lambda one: _rank(one, short.resource), default=None)


def _rank(resident: Resident, resource: str) -> tuple[bool, int, int]:
    if resource == "pids":
        return False, priority(resident.pod), -resident.use
    beyond = resident.use - pod_requests(resident.pod).get(resource, 0)
    return beyond <= 0, priority(resident.pod), -beyond


def is_critical(pod: Obj) -> bool:
    """Whether a pod stays whatever happens."""
    return priority(pod) >= CRITICAL


def rejection(resident: Resident, short: Shortage) -> Rejection:
    """What the evicted pod is told."""
    said = f"The node was low on resource: {short.resource}. "
    said += f"Threshold quantity: {short.threshold}, available: {short.available}. "
    for container in _containers(resident.pod):
        used = resident.uses.get(container["name"], 0)
        asked = amounts((container.get("resources") or {}).get("requests")).get(short.resource, 0)
        if used > asked:
            show = format_bytes if short.resource in ("memory", "ephemeral-storage") else str
            said += f"Container {container['name']} was using {show(used)}, request is {show(asked)}, "
            said += f"has larger consumption of {short.resource}. "
    return Rejection("Evicted", said, GRACE, disrupted=True)


def _containers(pod: Obj) -> Sequence[Obj]:
    spec = pod["spec"]
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def refusal(pod: Obj, pressures: Sequence[str]) -> Rejection | None:
    """Why a machine under `pressures` does not take a pod that comes all the same, or None."""
    if not pressures or is_critical(pod):
        return None
    if list(pressures) == ["MemoryPressure"] and (
        qos_class(pod) != "BestEffort" or any(one.tolerates(_MEMORY_TAINT) for one in read_tolerations(pod["spec"]))
    ):
        return None
    return Rejection("Evicted", f"The node had condition: [{' '.join(pressures)}]. ")

"""The words of admission: quotas, queues, what waits and what holds quota.

Amounts are integers: thousandths for cpu, whole units (bytes, pods, devices) for everything else, as `kinds.podspec`
counts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from corral.base.quantities import format_bytes, format_milli
from corral.kinds.selectors import NodeSelector
from corral.kinds.taints import Taint, Toleration
from corral.kinds.types import Key


class FlavorResource(NamedTuple):
    """What quota is given on: a resource of one sort of machine."""

    flavor: str
    resource: str


Usage: TypeAlias = Mapping[FlavorResource, int]


class Mode(IntEnum):
    """How well a workload fits; a larger one is better."""

    NO_FIT = 0
    PREEMPT = 1
    FIT = 2


@dataclass(frozen=True, slots=True)
class Quota:
    """`borrowing` and `lending` are None where there is no limit."""

    nominal: int = 0
    borrowing: int | None = None
    lending: int | None = None


@dataclass(frozen=True, slots=True)
class Flavor:
    """A sort of machine: its labels and taints, and what its pods are let bear."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Resources that are taken from one flavor together, and the flavors to try, in order."""

    resources: tuple[str, ...]
    flavors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cohort:
    """A node of the tree along which quota is borrowed; `parent` is empty at the root."""

    name: str
    parent: str = ""
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Preemption:
    """A ClusterQueue's `spec.preemption`; `borrowing` is `borrowWithinCohort.policy == LowerPriority`."""

    within: str = "Never"
    reclaim: str = "Never"
    borrowing: bool = False
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """A ClusterQueue. `closed` says why it admits nothing now, empty if it is open."""

    name: str
    groups: tuple[Group, ...] = ()
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    cohort: str = ""
    strict: bool = False
    preemption: Preemption = Preemption()
    borrow_stops: bool = True
    """A flavor that fits by borrowing ends the search (flavorFungibility.whenCanBorrow: MayStopSearch)."""
    preempt_stops: bool = False
    """A flavor that fits by preempting ends the search (whenCanPreempt: MayStopSearch)."""
    preempt_first: bool = False
    """Of flavors that fit by borrowing or by preempting, the latter are better (PreemptionOverBorrowing)."""
    weight: float = 1.0
    closed: str = ""


@dataclass(frozen=True, slots=True)
class PodSet:
    """`count` pods alike; `requests` are one pod's."""

    name: str
    count: int
    requests: Mapping[str, int]
    node_selector: Mapping[str, str] = field(default_factory=dict)
    affinity: NodeSelector | None = None
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """What orders workloads of one queue: higher priority first, then the older, then who came first."""

    rank: int
    """The priority, negated."""
    created: str
    """RFC 3339, in seconds."""
    serial: int
    """Rises with each new workload."""
    key: Key


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workload without quota. `closed` says why it is not considered (its LocalQueue, its namespace)."""

    key: Key
    uid: str
    queue: str
    place: Place
    pod_sets: tuple[PodSet, ...]
    closed: str = ""
    not_before: datetime | None = None
    first: bool = False
    """Others have been preempted for it: it goes before the rest of its cohort, or somebody else would take what was
    freed, and it would preempt again."""
    shape: object = None
    """Equal for workloads that ask for the same; None if that is not known."""

    @property
    def priority(self) -> int:
        return -self.place.rank


@dataclass(frozen=True, slots=True)
class Holding:
    """A workload that holds quota. `reserved` is when it got it (RFC 3339)."""

    key: Key
    queue: str
    place: Place
    usage: Usage
    reserved: str = ""
    evicted: bool = False

    @property
    def priority(self) -> int:
        return -self.place.rank


@dataclass(frozen=True, slots=True)
class State:
    """Everything that admission decides from."""

    flavors: Mapping[str, Flavor]
    cohorts: tuple[Cohort, ...]
    queues: tuple[Queue, ...]
    waiting: tuple[Waiting, ...] = ()
    holding: tuple[Holding, ...] = ()


class Shortage(NamedTuple):
    """Why a flavor does not do: `needed` more than is `free` of a quota; `limit` says that waiting does not help."""

    pod_set: str
    place: FlavorResource
    needed: int
    free: int
    limit: bool

    def __str__(self) -> str:
        flavor, resource = self.place
        if self.limit:
            return (
                f"insufficient quota for {resource} in flavor {flavor}, request > maximum capacity "
                f"({text(resource, self.needed)} > {text(resource, self.free)})"
            )
        more = text(resource, self.needed - self.free)
        return f"insufficient unused quota for {resource} in flavor {flavor}, {more} more needed"


@dataclass(frozen=True, slots=True)
class Assigned:
    """The flavors that a pod set gets. `usage` is that of all its pods."""

    name: str
    count: int
    flavors: Mapping[str, str]
    usage: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Admit:
    """Give a workload its quota."""

    key: Key
    queue: str
    pod_sets: tuple[Assigned, ...]
    borrows: bool


@dataclass(frozen=True, slots=True)
class Preempt:
    """Take a workload's quota for the workload `by`; `reason` is one of Kueue's (InClusterQueue, ...)."""

    key: Key
    by: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a workload that was considered goes on waiting."""

    key: Key
    message: str
    shortages: tuple[Shortage, ...] = ()


@dataclass(frozen=True, slots=True)
class Decisions:
    """In the order in which they were made."""

    admit: tuple[Admit, ...] = ()
    preempt: tuple[Preempt, ...] = ()
    wait: tuple[Wait, ...] = ()


def text(resource: str, amount: int) -> str:
    """An amount as the API writes it: `500m`, `2Gi`, `3`."""
    if resource == "cpu":
        return format_milli(amount)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return format_bytes(amount)
    return str(amount)

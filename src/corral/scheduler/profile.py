"""Profiles: which rules hold and how scores are weighed. Data only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

from corral.kinds.types import Key
from corral.scheduler.filters import DomainFilter, Filter, RowFilter
from corral.scheduler.filters.devices import Devices
from corral.scheduler.filters.node_affinity import NodeAffinity
from corral.scheduler.filters.node_name import NodeName
from corral.scheduler.filters.pod_affinity import PodAffinity
from corral.scheduler.filters.ports import Ports
from corral.scheduler.filters.resources import Resources
from corral.scheduler.filters.taints import Taints
from corral.scheduler.filters.topology_spread import TopologySpread
from corral.scheduler.filters.unschedulable import Unschedulable
from corral.scheduler.filters.volumes import VolumeBinding, VolumeUse
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import DomainScore, PeerScore, RowScore, ShapeScore
from corral.scheduler.scores.fill import Balanced, LeastAllocated, MostAllocated
from corral.scheduler.scores.fragmentation import Fragmentation
from corral.scheduler.scores.images import ImageLocality
from corral.scheduler.scores.node_affinity import PreferredAffinity
from corral.scheduler.scores.pod_affinity import PreferredPodAffinity
from corral.scheduler.scores.stranded import Fullest, LeastStranded
from corral.scheduler.scores.taints import PreferredTaints
from corral.scheduler.scores.topology_spread import PreferredSpread

RESOURCES = Resources()
"""The rule of every profile."""


class Waiting(Protocol):
    """What a queue order may look at; see `plan.Pending`."""

    @property
    def key(self) -> Key: ...
    @property
    def pod_class(self) -> PodClass: ...
    @property
    def priority(self) -> int: ...
    @property
    def order(self) -> int: ...


Order: TypeAlias = Callable[[Waiting], tuple[float, ...]]
"""A pod's place in the queue: the smallest comes first."""


def by_priority(pod: Waiting) -> tuple[float, ...]:
    """The most important first, among equals who came first."""
    return -pod.priority, pod.order


@dataclass(frozen=True)
class Profile:
    """A way of choosing. Rules and weights are those of kube-scheduler's default profile."""

    name: str
    rows: Sequence[tuple[RowScore, float]]
    """For pods that ask for no GPUs."""
    gpu_rows: Sequence[tuple[RowScore, float]] = ((Fragmentation(), 1.0),)
    """For pods that ask for GPUs, instead: elsewhere these cost more than a full or an empty machine matters."""
    beside_gpus: Sequence[tuple[RowScore, float]] = ((Fragmentation(), 10.0),)
    """Besides `rows`: what pods without GPUs strand."""
    shape: Sequence[tuple[ShapeScore, float]] = ((PreferredTaints(), 3.0), (PreferredAffinity(), 2.0))
    peers: Sequence[tuple[PeerScore, float]] = (
        (PreferredSpread(), 2.0),
        (PreferredPodAffinity(), 2.0),
        (ImageLocality(), 1.0),
    )
    shape_filters: Sequence[Filter] = (Unschedulable(), NodeName(), Taints(), NodeAffinity(), VolumeBinding())
    """Rules that only a change of a machine itself, or of the pod's storage, can turn over."""
    row_filters: Sequence[RowFilter] = (Ports(), Devices())
    """Rules, besides that of resources, that only a pod on the same machine can turn over."""
    peer_filters: Sequence[Filter] = (VolumeUse(), TopologySpread(), PodAffinity())
    """Rules that pods on other machines can turn over."""
    order: Order = by_priority
    """Who is decided first. One queue has one order: that of the scheduler's default profile."""
    by_labels: bool = False
    """Whether row filters or row scores look at what a pod is to others, too: its namespace, labels and priority."""

    @cached_property
    def by_domain(self) -> Sequence[DomainFilter]:
        """Of `peer_filters`, those that say the same of all machines of a domain."""
        return tuple(rule for rule in self.peer_filters if isinstance(rule, DomainFilter))

    @cached_property
    def by_machine(self) -> Sequence[Filter]:
        """The others of `peer_filters`."""
        return tuple(rule for rule in self.peer_filters if not isinstance(rule, DomainFilter))

    @cached_property
    def reticent(self) -> Sequence[DomainScore]:
        """Of `peers`, those that say when they have nothing to say."""
        return tuple(score for score, _ in self.peers if isinstance(score, DomainScore))

    def row_scores(self, pod: PodClass) -> Sequence[tuple[RowScore, float]]:
        """The scores that placed pods change, for pods like this."""
        return self.gpu_rows if pod.gpu is not None else (*self.rows, *self.beside_gpus)

    @property
    def filters(self) -> Sequence[Filter]:
        """All rules, in the order in which the first that refuses a machine is the one that is named."""
        return (*self.shape_filters, *self.row_filters, RESOURCES, *self.peer_filters)


SPREADING = Profile("spreading", ((LeastAllocated(), 1.0), (Balanced(), 1.0)))
PACKING = Profile("packing", ((MostAllocated(), 1.0),))
HYBRID = Profile("hybrid", ((LeastStranded(), 0.625), (Fullest(), 0.375)))
PROFILES = {profile.name: profile for profile in (SPREADING, PACKING, HYBRID)}

"""Profiles: which rules hold and how scores are weighed. Data only."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.scheduler.filters import Filter
from corral.scheduler.filters.node_affinity import NodeAffinity
from corral.scheduler.filters.node_name import NodeName
from corral.scheduler.filters.pod_affinity import PodAffinity
from corral.scheduler.filters.ports import Ports
from corral.scheduler.filters.resources import Resources
from corral.scheduler.filters.taints import Taints
from corral.scheduler.filters.topology_spread import TopologySpread
from corral.scheduler.filters.unschedulable import Unschedulable
from corral.scheduler.scores import FillScore, PeerScore, ShapeScore
from corral.scheduler.scores.fill import Balanced, LeastAllocated, MostAllocated
from corral.scheduler.scores.node_affinity import PreferredAffinity
from corral.scheduler.scores.pod_affinity import PreferredPodAffinity
from corral.scheduler.scores.taints import PreferredTaints
from corral.scheduler.scores.topology_spread import PreferredSpread

RESOURCES = Resources()
PORTS = Ports()
SHAPE_FILTERS: Sequence[Filter] = (Unschedulable(), NodeName(), Taints(), NodeAffinity())
"""Rules that only a change of a machine itself can turn over."""
PEER_FILTERS: Sequence[Filter] = (TopologySpread(), PodAffinity())
"""Rules that pods on other machines can turn over."""
FILTERS: Sequence[Filter] = (*SHAPE_FILTERS, PORTS, RESOURCES, *PEER_FILTERS)
"""All rules, in the order in which the first that refuses a machine is the one that is named."""


@dataclass(frozen=True)
class Profile:
    """A way of choosing. Weights are kube-scheduler's for its default profile."""

    name: str
    fill: Sequence[tuple[FillScore, float]]
    shape: Sequence[tuple[ShapeScore, float]] = ((PreferredTaints(), 3.0), (PreferredAffinity(), 2.0))
    peers: Sequence[tuple[PeerScore, float]] = ((PreferredSpread(), 2.0), (PreferredPodAffinity(), 2.0))


SPREADING = Profile("spreading", ((LeastAllocated(), 1.0), (Balanced(), 1.0)))
PACKING = Profile("packing", ((MostAllocated(), 1.0),))
PROFILES = {profile.name: profile for profile in (SPREADING, PACKING)}

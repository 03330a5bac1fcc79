"""Does it fit? Where waiting pods go, and why others go nowhere. Pure."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.kinds.types import Key
from corral.scheduler.plan import Pending
from corral.scheduler.simulator.bands import BANDS, band
from corral.scheduler.simulator.cell import Outcome, Progress, SimulatedCell, silent
from corral.scheduler.simulator.usage import ResourceUse, machines_in_use, measure, shares


@dataclass(frozen=True)
class Totals:
    """The machines at one moment."""

    machines: int
    in_use: int
    """Machines with a pod."""
    resources: Sequence[ResourceUse]


@dataclass(frozen=True)
class WorkloadFit:
    """How many of a workload's waiting pods were placed, and on how many machines."""

    name: str
    band: str
    pods: int
    placed: int
    machines: int


@dataclass(frozen=True)
class Refusal:
    """So many pods of a workload are nowhere for this reason."""

    workload: str
    pods: int
    reason: str


@dataclass(frozen=True)
class Fit:
    """Where the pods that waited went."""

    profile: str
    asked: int
    """Pods that waited, and those that had to make room for them."""
    before: Totals
    after: Totals
    outcome: Outcome
    workloads: Sequence[WorkloadFit]
    """Most important band first."""
    refusals: Sequence[Refusal]
    """Most pods first."""
    shares: Mapping[str, Sequence[float]]
    """What part of each machine's cpu and memory is taken."""

    @property
    def fits(self) -> bool:
        """Whether nothing is left out, neither of what waited nor of what made room for it."""
        return not self.outcome.refused


def fit(cell: SimulatedCell, now: datetime, rng: random.Random, progress: Progress = silent) -> Fit:
    """Place the pods of `cell` that wait; they and the pods they push out are the outcome."""
    before, waiting = totals(cell), list(cell.waiting)
    outcome = cell.settle(now, rng, progress)
    after = totals(cell)
    taken = {name: shares(cell.snapshot, name).tolist() for name in ("cpu", "memory")}
    asked = len(waiting) + len(cell.unreadable) + len(outcome.evicted)
    return Fit(
        cell.profile.name,
        asked,
        before,
        after,
        outcome,
        _workloads(cell, waiting, outcome),
        refusals(cell, outcome),
        taken,
    )


def totals(cell: SimulatedCell) -> Totals:
    """The machines of `cell` as they are now."""
    snapshot = cell.snapshot
    return Totals(len(snapshot), machines_in_use(snapshot), measure(snapshot, cell.load.items()))


def refusals(cell: SimulatedCell, outcome: Outcome) -> list[Refusal]:
    """The refused pods, summed up."""
    counts = Counter((cell.workloads[key], reason) for key, reason in outcome.refused.items())
    found = [Refusal(name, count, reason) for (name, reason), count in counts.items()]
    return sorted(found, key=lambda one: (-one.pods, one.workload, one.reason))


def _workloads(cell: SimulatedCell, waiting: Sequence[Pending], outcome: Outcome) -> list[WorkloadFit]:
    groups: dict[tuple[int, str], list[Key]] = {}
    for pod in waiting:
        groups.setdefault((BANDS.index(band(pod.priority)), cell.workloads[pod.key]), []).append(pod.key)
    rows = []
    for (rank, name), keys in sorted(groups.items()):
        machines = [outcome.placed[key] for key in keys if key in outcome.placed]
        rows.append(WorkloadFit(name, BANDS[rank], len(keys), len(machines), len(set(machines))))
    return rows

"""What if machines die? Their pods are placed anew among the rest, the more important pushing out the less. Pure."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from corral.base.errors import CorralError
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key
from corral.scheduler.simulator.bands import BANDS, band
from corral.scheduler.simulator.cell import NOT_MADE_ANEW, Outcome, Progress, SimulatedCell, silent
from corral.scheduler.simulator.fit import Refusal, Totals, refusals, totals


@dataclass(frozen=True)
class BandLoss:
    """What a band's pods went through; of `displaced` and `pushed_out` together, `lost` found no machine."""

    band: str
    running: int
    """Before."""
    displaced: int
    """On a machine that died."""
    pushed_out: int
    """Made room for more important ones."""
    placed: int
    lost: int
    ended: int
    """Belonged to a machine that died, and ended with it."""


@dataclass(frozen=True)
class Failure:
    """After the machines died and everything that could be was placed again."""

    profile: str
    died: Sequence[str]
    before: Totals
    after: Totals
    bands: Sequence[BandLoss]
    """Bands with pods, most important first."""
    refusals: Sequence[Refusal]
    outcome: Outcome

    @property
    def survives(self) -> bool:
        """Whether every pod has a machine again."""
        return not any(loss.lost for loss in self.bands)


def choose(cell: SimulatedCell, count: int, rng: random.Random) -> list[str]:
    """`count` machines at random.

    Raises:
        CorralError: there are not so many.
    """
    names = sorted(cell.machine_names())
    if count > len(names):
        raise CorralError(f"cannot let {count} machines die: there are {len(names)}", "choose fewer")
    return rng.sample(names, count)


def labelled(cell: SimulatedCell, selector: LabelSelector) -> list[str]:
    """The machines that `selector` chooses.

    Raises:
        CorralError: there is none.
    """
    machines = [cell.snapshot.machine(row) for row in cell.snapshot.rows()]
    names = sorted(machine.name for machine in machines if selector.matches(machine.labels))
    if not names:
        raise CorralError(f"cannot let machines die: no machine has the labels {selector}", "choose other labels")
    return names


def fail(
    cell: SimulatedCell, machines: Sequence[str], now: datetime, rng: random.Random, progress: Progress = silent
) -> Failure:
    """Let `machines` die at the same moment.

    Raises:
        CorralError: one of them is not there.
    """
    cell.settle(now, rng, progress)
    before, there = totals(cell), cell.placed()
    running = {key: pod.peers.priority for key, pod in there}
    displaced: list[Key] = []
    ended: list[Key] = []
    for name in machines:
        moved, gone = cell.kill(name)
        displaced += moved
        ended += gone
    outcome = cell.settle(now, rng, progress)
    outcome.refused |= {key: NOT_MADE_ANEW for key in displaced if key in cell.orphans}
    bands = _losses(running, set(displaced), set(ended), outcome)
    return Failure(cell.profile.name, tuple(machines), before, totals(cell), bands, refusals(cell, outcome), outcome)


def _losses(running: Mapping[Key, int], displaced: Set[Key], ended: Set[Key], outcome: Outcome) -> list[BandLoss]:
    concerned = displaced | outcome.evicted.keys()
    counts = {name: Counter[str]() for name in BANDS}
    for key, importance in running.items():
        count = counts[band(importance)]
        count["running"] += 1
        count["displaced"] += key in displaced
        count["pushed_out"] += key in outcome.evicted and key not in displaced
        count["placed"] += key in concerned and key in outcome.placed
        count["lost"] += key in concerned and key not in outcome.placed
        count["ended"] += key in ended
    fields = ("running", "displaced", "pushed_out", "placed", "lost", "ended")
    return [BandLoss(name, *(count[field] for field in fields)) for name, count in counts.items() if count["running"]]

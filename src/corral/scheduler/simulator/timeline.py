"""How a load plays out: pods arrive, run for as long as they do, and leave; a discrete-event simulation. Pure.

At each moment at which something happens, pods that are done leave, pods that are due arrive, and the scheduler decides
as it does live. A pod that is pushed out starts over. What starts with the cell and has no duration stays.
"""

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.kinds.types import Key
from corral.scheduler.plan import Pending
from corral.scheduler.simulator.bands import BANDS, band
from corral.scheduler.simulator.cell import Outcome, Progress, SimulatedCell, silent
from corral.scheduler.simulator.fit import Refusal, refusals
from corral.scheduler.simulator.scenario import Span
from corral.scheduler.simulator.usage import capacity, taken

_ALWAYS = Span(0.0, None)


@dataclass(frozen=True)
class Waits:
    """How long the pods of a band waited for a machine, in seconds; those that never had one are left out."""

    band: str
    pods: int
    ran: int
    pushed_out: int
    """How often one was."""
    median: float
    p90: float
    p99: float
    longest: float


@dataclass(frozen=True)
class Timeline:
    """What happened: `times` (in seconds) are when something changed, other sequences say how it was from then on."""

    profile: str
    machines: int
    capacity: Mapping[str, int]
    """cpu and `GPU` in thousandths, everything else in whole units."""
    times: Sequence[float]
    used: Mapping[str, Sequence[int]]
    """By resource."""
    waiting: Sequence[int]
    waits: Sequence[Waits]
    refusals: Sequence[Refusal]
    """Why those that wait in the end were refused last."""

    @property
    def span(self) -> float:
        """Seconds from the first change to the last."""
        return self.times[-1] - self.times[0] if self.times else 0.0

    def mean(self, resource: str) -> float:
        """How much of a resource was used on average over time."""
        steps = zip(self.used[resource], self.times, self.times[1:], strict=False)
        return sum(amount * (after - before) for amount, before, after in steps) / self.span if self.span else 0.0


def play(
    cell: SimulatedCell, spans: Mapping[Key, Span], now: datetime, rng: random.Random, progress: Progress = silent
) -> Timeline:
    """Let the pods of `cell` that wait come and go as `spans` say.

    Args:
        now: what the scheduler is told that the time is.
        progress: told how many arrivals and departures are done, and how many there will be at most.
    """
    story = _Story(cell, spans)
    arrivals = sorted(cell.waiting.take_all(), key=lambda pod: story.span(pod.key).start)
    times: list[float] = []
    used: dict[str, list[int]] = {name: [] for name in story.used}
    waiting: list[int] = []
    arrived = 0
    while arrived < len(arrivals) or story.ends:
        due = [story.ends[0][0]] if story.ends else []
        moment = min([*due, *(story.span(pod.key).start for pod in arrivals[arrived : arrived + 1])])
        freed = story.leave(moment)
        while arrived < len(arrivals) and story.span(arrivals[arrived].key).start <= moment:
            story.arrive(arrivals[arrived], moment)
            arrived += 1
        story.take_in(cell.settle(now, rng, freed=freed), moment)
        if times and times[-1] == moment:
            del times[-1], waiting[-1]
            for amounts in used.values():
                del amounts[-1]
        times.append(moment)
        waiting.append(len(cell.waiting))
        for name, amounts in used.items():
            amounts.append(story.used[name])
        progress(arrived + story.left, 2 * len(arrivals))
    outcome = Outcome(refused={pod.key: story.reasons.get(pod.key, "") for pod in cell.waiting} | cell.unreadable)
    return Timeline(
        cell.profile.name, len(cell.snapshot), capacity(cell.snapshot), times, used, waiting, story.waits(),
        refusals(cell, outcome),
    )  # fmt: skip


@dataclass
class _Pod:
    band: str
    since: float
    """When it began to wait, this time."""
    waited: float = 0.0
    starts: int = 0
    pushed_out: int = 0


class _Story:
    """What has happened so far."""

    def __init__(self, cell: SimulatedCell, spans: Mapping[Key, Span]) -> None:
        self.used = dict.fromkeys(capacity(cell.snapshot), 0)
        self.ends: list[tuple[float, Key, int]] = []
        """When, who, and in which of its starts."""
        self.left = 0
        self.reasons: dict[Key, str] = {}
        self._cell = cell
        self._spans = spans
        self._pods: dict[Key, _Pod] = {}
        self._running: dict[Key, Mapping[str, int]] = {}
        for key, pod_class in cell.placed():
            self._pods[key] = _Pod(band(pod_class.peers.priority), 0.0)
            self._start(key, 0.0)

    def span(self, key: Key) -> Span:
        """When a pod comes, and how long it runs."""
        return self._spans.get(key, _ALWAYS)

    def arrive(self, pod: Pending, now: float) -> None:
        """A pod begins to wait."""
        self._pods[pod.key] = _Pod(band(pod.priority), now)
        self._cell.waiting.add(pod)

    def leave(self, now: float) -> bool:
        """Let those go that are done; whether there were any."""
        gone = False
        while self.ends and self.ends[0][0] <= now:
            _, key, start = heapq.heappop(self.ends)
            # Who was pushed out since then ends later.
            if key in self._running and self._pods[key].starts == start:
                self._stop(key)
                self._cell.end(key)
                self.left += 1
                gone = True
        return gone

    def take_in(self, outcome: Outcome, now: float) -> None:
        """Note what the scheduler decided."""
        for key in outcome.evicted:
            self._stop(key)
            self._pods[key].since = now
            self._pods[key].pushed_out += 1
        for key in outcome.placed:
            self._start(key, now)
        self.reasons |= outcome.refused

    def _start(self, key: Key, now: float) -> None:
        pod, duration = self._pods[key], self.span(key).duration
        pod.waited += now - pod.since
        pod.starts += 1
        self._running[key] = taken(self._cell.snapshot.class_of(key))
        self._count(self._running[key], 1)
        if duration is not None:
            heapq.heappush(self.ends, (now + duration, key, pod.starts))

    def _stop(self, key: Key) -> None:
        self._count(self._running.pop(key), -1)

    def _count(self, amounts: Mapping[str, int], sign: int) -> None:
        for name, amount in amounts.items():
            if name in self.used:
                self.used[name] += sign * amount

    def waits(self) -> list[Waits]:
        """By band, most important first; only of pods that had to wait for a decision."""
        rows = []
        for name in BANDS:
            pods = [pod for key, pod in self._pods.items() if pod.band == name]
            waited = sorted(pod.waited for pod in pods if pod.starts)
            if pods:
                spread = [_percentile(waited, percent) for percent in (50, 90, 99, 100)]
                rows.append(Waits(name, len(pods), len(waited), sum(pod.pushed_out for pod in pods), *spread))
        return rows


def _percentile(ranked: Sequence[float], percent: int) -> float:
    """The smallest that at least so many percent do not exceed; 0 of nothing."""
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)] if ranked else 0.0

"""How long until a workload's turn, from what has been seen to end. Pure.

A queue gives back quota as its workloads end. How fast is counted in dominant shares of what the queue may use at
most: of the last finishes (fifty at the most) all but the first, over the time from the first until now. So long jobs
weigh more than short ones, and the rate falls by itself while nothing ends. A workload's turn comes when as much has
come back as it and those before it need, less what is free now.

That takes the next hour to be like the last and the order to stay: a more important workload that comes later, quota
that a cohort lends or takes back, and small workloads that a BestEffortFIFO queue lets by are not foreseen. Before
three workloads have ended nothing is said at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from corral.batch.model import FlavorResource, Usage, Waiting
from corral.batch.quota import Tree

OBSERVED: Final = 50
ENOUGH: Final = 3


class Finish(NamedTuple):
    """A workload that has ended, and the quota that came back with it."""

    at: datetime
    queue: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was seen of a queue: `finished` workloads in `seconds`, which gave back `shares` of it a second."""

    finished: int
    seconds: float
    shares: float

    @property
    def known(self) -> bool:
        """Whether enough was seen to say anything."""
        return self.finished >= ENOUGH and self.shares > 0


def throughput(finishes: Iterable[Finish], queue: str, tree: Tree, now: datetime) -> Throughput:
    """The queue's, over the last finishes."""
    last = sorted((one for one in finishes if one.queue == queue), key=lambda one: one.at)[-OBSERVED:]
    if len(last) < 2:
        return Throughput(len(last), 0.0, 0.0)
    # Times are whole seconds: two that share one are half a second apart on average.
    seconds = max((now - last[0].at).total_seconds(), 0.5)
    return Throughput(len(last), seconds, sum(share(queue, one.usage, tree) for one in last[1:]) / seconds)


def share(queue: str, usage: Usage, tree: Tree) -> float:
    """The largest part of anything that the queue may use at most that `usage` takes."""
    parts = ((amount, tree.most(queue, place)) for place, amount in usage.items())
    return max((amount / most for amount, most in parts if most), default=0.0)


def needs(queue: str, workload: Waiting, tree: Tree, groups: Mapping[str, Sequence[str]]) -> Usage:
    """What a workload would use if each of its resources came from the first flavor that could ever hold it. `groups`
    gives the flavors of each resource."""
    total: dict[str, int] = {}
    for pod_set in workload.pod_sets:
        for name, amount in pod_set.requests.items():
            total[name] = total.get(name, 0) + amount * pod_set.count
    found: dict[FlavorResource, int] = {}
    for name, amount in total.items():
        for flavor in groups.get(name, ()):
            place = FlavorResource(flavor, name)
            if amount <= tree.most(queue, place):
                found[place] = amount
                break
    return found


def etas(
    queue: str,
    line: Sequence[Waiting],
    tree: Tree,
    groups: Mapping[str, Sequence[str]],
    seen: Throughput,
    now: datetime,
) -> list[float | None]:
    """Seconds until the turn of each workload of `line`, in its order; None where nothing can be said."""
    if not seen.known:
        return [None] * len(line)
    found: list[float | None] = []
    before: dict[FlavorResource, int] = {}
    for workload in line:
        wanted = needs(queue, workload, tree, groups)
        if not wanted:
            found.append(None)
            continue
        for place, amount in wanted.items():
            before[place] = before.get(place, 0) + amount
        missing = {place: max(0, before[place] - max(0, tree.free(queue, place))) for place in wanted}
        wait = share(queue, missing, tree) / seen.shares
        later = (workload.not_before - now).total_seconds() if workload.not_before else 0.0
        found.append(max(wait, later))
    return found

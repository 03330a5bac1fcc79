"""What must be true of a cell after whatever happened to it. Pure: a history in, violations and figures out.

Writes are checked as Jepsen checks registers and sets: an acknowledged write is there unless a later one took its
place; one whose outcome nobody knows may be there or not; and nothing is there that nobody wrote. Every write of the
client names the revision that it follows, so an acknowledged write ends the chances of all before it.

What ran, when and where is told by the containers themselves: each holds a lock in the kernel for as long as it lives
(flock(2) on a file of its ordinal or index), and notes in a journal that it began, that its work is done, or that
somebody else held its lock, and when that was over. What a frozen machine holds does not run until the machine thaws;
then its watchman has a moment to find out (decision 17).
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from .plan import MEMBER_SORTS, SERVER_SORTS, SILENCING, Fault, Sort

_APART: Final = 5.0
"""Seconds between a fault of servers or etcd and a machine's for that to count as alone."""
_SLACK: Final = 10.0
"""Seconds after a fault's end in which something may still be lost to it (fencing; the machine's boot)."""
_THAW: Final = 1.0
"""Seconds after a thaw in which the watchman has killed what ran on: its quarter, and room for a busy machine."""


class Outcome(StrEnum):
    """How a write ended for who wrote."""

    OK = "ok"
    REFUSED = "refused"
    """With a reason; it has no effect."""
    UNKNOWN = "unknown"
    """No answer, or one that leaves it open."""


@dataclass(frozen=True, slots=True)
class Write:
    """An attempt to give `key` the value, or to delete it (None). Values are never written twice."""

    key: str
    value: str | None
    outcome: Outcome
    at: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the journal: `event app identity uid node at`."""

    event: str
    """start, done, double, alone."""
    app: str
    identity: str
    uid: str
    node: str
    at: float


@dataclass(frozen=True, slots=True)
class JobEnd:
    """What the API says of a Job in the end."""

    name: str
    completions: int
    succeeded: int
    indexes: str
    """`completedIndexes`."""


@dataclass
class History:
    """All that was seen; times in seconds since the first fault might have come."""

    faults: list[Fault] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    appends: list[Write] = field(default_factory=list)
    """Tokens added to one set, by several writers."""
    final: dict[str, str] = field(default_factory=dict)
    """Keys and their values, read in the end."""
    tokens: list[str] = field(default_factory=list)
    """The set in the end."""
    journal: list[Line] = field(default_factory=list)
    jobs: list[JobEnd] = field(default_factory=list)
    ready: list[tuple[float, str, bool]] = field(default_factory=list)
    """When a machine was seen to become Ready, or to be it no more."""
    endpoints: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    """The machines of the ready endpoints, when they changed."""
    requests: list[tuple[float, bool]] = field(default_factory=list)
    """To the serving Deployment, and whether they were answered."""


def violations(history: History) -> list[str]:
    """All that should not be; empty if the cell kept its promises."""
    return [
        *lost_writes(history.writes, history.final),
        *lost_tokens(history.appends, history.tokens),
        *double_runs(history.journal, history.faults),
        *broken_jobs(history.jobs, history.journal, history.faults),
    ]


def lost_writes(writes: Iterable[Write], final: Mapping[str, str]) -> list[str]:
    """Keys that do not hold what they may."""
    allowed: dict[str, set[str | None]] = defaultdict(lambda: {None})
    for write in writes:
        if write.outcome is Outcome.OK:
            allowed[write.key] = {write.value}
        elif write.outcome is Outcome.UNKNOWN:
            allowed[write.key].add(write.value)
    keys = sorted(allowed.keys() | final.keys())
    return [
        f"{key} holds {final.get(key)!r}; it may hold {sorted(map(repr, allowed[key]))}"
        for key in keys
        if final.get(key) not in allowed[key]
    ]


def lost_tokens(appends: Sequence[Write], tokens: Sequence[str]) -> list[str]:
    """What is missing from the set, there twice, or from nowhere."""
    owed = {write.value for write in appends if write.outcome is Outcome.OK}
    possible = {write.value for write in appends if write.outcome is not Outcome.REFUSED}
    counted = Counter(tokens)
    return [
        *(f"the acknowledged token {token} is lost" for token in sorted(map(str, owed - counted.keys()))),
        *(f"the token {token} is from nowhere" for token in sorted(counted.keys() - possible)),
        *(f"the token {token} is there {times} times" for token, times in counted.items() if times > 1),
    ]


def double_runs(journal: Sequence[Line], faults: Sequence[Fault]) -> list[str]:
    """Identities that began while another of them was alive, and did not only stand still."""
    return [
        f"{line.app}/{line.identity} ran twice at {line.at:.1f} s: it began on {line.node} ({line.uid})"
        for line, overlap in _doubles(journal, faults)
        if overlap is None or overlap > _THAW
    ]


def _doubles(journal: Sequence[Line], faults: Sequence[Fault]) -> list[tuple[Line, float | None]]:
    """Each that found its lock held, and for how many seconds both ran: None if the holder's machine was not frozen."""
    held: dict[tuple[str, str], Line] = {}
    before: dict[str, Line] = {}
    found: list[tuple[Line, float | None]] = []
    for number, line in enumerate(journal):
        name = (line.app, line.identity)
        if line.event == "start" and name in held:
            before[line.uid] = held[name]
        if line.event in ("start", "alone"):
            held[name] = line
        elif line.event == "double" and line.uid in before:
            held[name] = before[line.uid]
            found.append((line, _overlap(line, held[name], journal[number:], faults)))
    return found


def _overlap(line: Line, holder: Line, later: Sequence[Line], faults: Sequence[Fault]) -> float | None:
    thaws = [
        fault.ends
        for fault in faults
        if fault.sort is Sort.FREEZE_MACHINE and fault.target == holder.node and fault.at < line.at < fault.ends
    ]
    if not thaws:
        return None
    same = [other for other in later if (other.app, other.identity) == (line.app, line.identity)]
    for other in same:
        if (other.event, other.uid) == ("alone", line.uid):
            return max(0.0, other.at - thaws[0])
        if other.event == "start":
            return 0.0  # this one died before the other thawed, or its successor finds two
    return math.inf


def broken_jobs(jobs: Iterable[JobEnd], journal: Sequence[Line], faults: Sequence[Fault]) -> list[str]:
    """Jobs that did not do each index's work, said that they did, or did it again without need.

    A pod that never restarts begins once and does its work at most once. An index's work is done again only if a
    fault came between the beginning of a pod and its successor's, when it may have taken the pod or its last word.
    """
    found: list[str] = []
    for job in jobs:
        if (job.succeeded, job.indexes) != (job.completions, _all(job.completions)):
            found.append(f"job {job.name}: {job.succeeded} of {job.completions} succeeded, indexes {job.indexes!r}")
        runs = [line for line in journal if line.app == job.name]
        done = {line.identity for line in runs if line.event == "done"}
        missing = sorted({str(index) for index in range(job.completions)} - done, key=int)
        found += [f"job {job.name}: the work of index {index} was never done" for index in missing]
        times = Counter((line.event, line.uid) for line in runs)
        twice = [(event, uid, count) for (event, uid), count in times.items() if count > 1]
        found += [f"job {job.name}: pod {uid}: {count} times {event}" for event, uid, count in twice]
        found += [f"job {job.name}: {reason}" for reason in _needless(runs, faults)]
    return found


def _all(completions: int) -> str:
    return "0" if completions == 1 else f"0-{completions - 1}"


def _needless(runs: Iterable[Line], faults: Sequence[Fault]) -> list[str]:
    """Successors of pods that nothing had happened to."""
    before: dict[str, Line] = {}
    found = []
    for line in sorted((line for line in runs if line.event == "start"), key=lambda line: line.at):
        first = before.get(line.identity)
        if first and not any(fault.at < line.at and fault.ends + _SLACK > first.at for fault in faults):
            found.append(f"index {line.identity} began again at {line.at:.1f} s, and nothing had happened")
        before[line.identity] = line
    return found


@dataclass(frozen=True, slots=True)
class Figures:
    """What the faults cost. Seconds."""

    detected: list[float]
    """From a machine's silence to its Node not being Ready."""
    replaced: list[float]
    """From a machine's silence until an ordinal that ran there runs elsewhere."""
    restored: list[float]
    """From a machine's silence until the Deployment has all its endpoints on other machines."""
    overlaps: list[float]
    """From a machine's thaw until what runs elsewhere by now was dead there."""
    requests: int
    lost: int

    def lines(self) -> list[str]:
        """For people."""
        share = 100 * self.lost / max(1, self.requests)
        return [
            f"time to detect: {_spread(self.detected)}",
            f"time to replace an ordinal: {_spread(self.replaced)}",
            f"time to restore the endpoints: {_spread(self.restored)}",
            f"requests lost: {self.lost} of {self.requests} ({share:.2f} %)",
            f"two of one ordinal after a thaw: {_spread(self.overlaps)}",
        ]


def _spread(seconds: Collection[float]) -> str:
    if not seconds:
        return "nothing to measure"
    return f"median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s ({len(seconds)})"


def figures(history: History, apps: Sequence[str], *, alone: bool = False) -> Figures:
    """Measured on machines that fell silent for long enough; `apps`: the StatefulSets.

    `alone`: only of faults during which nothing was wrong with servers and etcd; with each that takes over a machine's
    time begins anew.
    """
    detected, replaced, restored = [], [], []
    replicas = max((len(nodes) for _, nodes in history.endpoints), default=0)
    for fault in (fault for fault in history.faults if fault.sort in SILENCING):
        if alone and not _is_alone(fault, history.faults):
            continue
        seen = [at for at, node, ready in history.ready if node == fault.target and not ready]
        detected += [at - fault.at for at in seen if fault.at < at < fault.ends][:1]
        for app in apps:
            replaced += _moves(app, fault, history.journal)
        before = [nodes for at, nodes in history.endpoints if at <= fault.at]
        if before and fault.target in before[-1]:
            later = [at for at, nodes in history.endpoints if at > fault.at and _elsewhere(nodes, fault, replicas)]
            restored += [at - fault.at for at in later[:1] if at < fault.ends]
    overlaps = [overlap for _, overlap in _doubles(history.journal, history.faults) if overlap is not None]
    lost = sum(not ok for _, ok in history.requests)
    return Figures(detected, replaced, restored, overlaps, len(history.requests), lost)


def _is_alone(fault: Fault, faults: Iterable[Fault]) -> bool:
    disturbing = [other for other in faults if other.sort in SERVER_SORTS | MEMBER_SORTS]
    return not any(other.at < fault.ends and fault.at - _APART < other.ends for other in disturbing)


def _elsewhere(nodes: Collection[str], fault: Fault, replicas: int) -> bool:
    return fault.target not in nodes and len(nodes) == replicas


def _moves(app: str, fault: Fault, journal: Iterable[Line]) -> list[float]:
    """For each ordinal that was on the machine of `fault`: seconds until it began elsewhere, within the fault."""
    last: dict[str, str] = {}
    found: dict[str, float] = {}
    for line in sorted((line for line in journal if line.app == app and line.event == "start"), key=lambda x: x.at):
        if line.at <= fault.at:
            last[line.identity] = line.node
        elif line.at < fault.ends and last.get(line.identity) == fault.target != line.node:
            found.setdefault(line.identity, line.at - fault.at)
    return list(found.values())

"""The simulator's answers for people."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from corral.cli.terminal import columns
from corral.kinds.tables import human_duration
from corral.kinds.types import Key
from corral.scheduler.simulator.compaction import Compaction
from corral.scheduler.simulator.failure import Failure
from corral.scheduler.simulator.fit import Fit, Refusal, Totals, WorkloadFit
from corral.scheduler.simulator.timeline import Timeline
from corral.scheduler.simulator.usage import GPU, ResourceUse
from corral.scheduler.snapshot import PODS

T = TypeVar("T")
_SHOWN = 12
_NUMBER = re.compile(r"\b\d+ ")
_NAMED = 3
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def amount(resource: str, value: int) -> str:
    """An amount in the units of `pod_requests`, short: cores, bytes with a unit, or a number."""
    if resource in ("cpu", GPU):
        return _short(value / 1000)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        size, unit = float(value), 0
        while abs(size) >= 1024 and unit < len(_BINARY) - 1:
            size, unit = size / 1024, unit + 1
        return f"{_short(size)} {_BINARY[unit]}"
    return f"{value:,}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def many(count: int, noun: str) -> str:
    """A number of things."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def fit_words(fit: Fit, *, wide: bool) -> Iterator[str]:
    """`corral simulate fit`."""
    if fit.fits:
        there = many(fit.after.machines, "machine")
        yield f"It fits: {many(fit.asked, 'pod')} placed on {there}." if fit.asked else "It fits: no pod waits."
    else:
        yield f"It does not fit: no machine for {len(fit.outcome.refused):,} of {many(fit.asked, 'pod')}."
    if fit.outcome.evicted:
        yield f"Of those, {many(len(fit.outcome.evicted), 'pod')} had to make room for more important ones."
    yield ""
    yield _resources(fit.before, fit.after)
    if fit.workloads:
        yield ""
        yield from _workloads(fit.workloads, wide)
    yield from _refused(fit.refusals, wide)
    yield from _places(fit.outcome.placed, wide)


def _places(placed: Mapping[Key, str], wide: bool) -> Iterator[str]:
    if wide and placed:
        yield ""
        yield columns(
            ["NAMESPACE", "POD", "MACHINE"], [[key.namespace, key.name, node] for key, node in placed.items()]
        )


def _workloads(rows: Sequence[WorkloadFit], wide: bool) -> Iterator[str]:
    """Each workload, or, where they are many, each band."""
    if wide or len(rows) <= _SHOWN:
        cells = [[row.name, row.band, f"{row.pods:,}", f"{row.placed:,}", f"{row.machines:,}"] for row in rows]
        yield columns(["WORKLOAD", "BAND", "PODS", "PLACED", "MACHINES"], cells)
        return
    bands: dict[str, list[WorkloadFit]] = {}
    for row in rows:
        bands.setdefault(row.band, []).append(row)
    cells = [
        [name, f"{len(some):,}", f"{sum(row.pods for row in some):,}", f"{sum(row.placed for row in some):,}"]
        for name, some in bands.items()
    ]
    yield columns(["BAND", "WORKLOADS", "PODS", "PLACED"], cells)


def _resources(before: Totals, after: Totals) -> str:
    earlier = {use.name: use for use in before.resources}
    rows = []
    for use in after.resources:
        first = earlier.get(use.name, ResourceUse(use.name, 0, 0, 0))
        # Room for pods is worth a line where it may be what runs out.
        enough = 0.5 if use.name == PODS else 0.0
        if use.name not in ("cpu", "memory") and max(use.share(use.used), first.share(first.used)) <= enough:
            continue
        rows.append(
            [
                use.name,
                amount(use.name, use.allocatable),
                f"{first.share(first.used):.1%}",
                f"{use.share(use.used):.1%}",
                amount(use.name, use.free),
                amount(use.name, use.stranded),
            ]
        )
    return columns(["RESOURCE", "THERE IS", "BEFORE", "AFTER", "FREE", "STRANDED"], rows)


def _refused(refusals: Sequence[Refusal], wide: bool) -> Iterator[str]:
    """Why pods are nowhere; in short those for the same reasons together, and an example of the words."""
    groups: dict[str, list[Refusal]] = {}
    for one in refusals:
        groups.setdefault(f"{one.workload} {one.reason}" if wide else _NUMBER.sub("", one.reason), []).append(one)
    rows = []
    for group in sorted(groups.values(), key=lambda group: -sum(one.pods for one in group)):
        names = dict.fromkeys(one.workload for one in group)
        others = f" and {many(len(names) - 1, 'other')}" if len(names) > 1 else ""
        rows.append([next(iter(names)) + others, f"{sum(one.pods for one in group):,}", group[0].reason])
    if rows:
        yield ""
        yield columns(["STAYS OUT", "PODS", "WHY"], _first(rows, wide))
        yield from _more(len(rows), wide, "line")


def _first(rows: Sequence[T], wide: bool) -> Sequence[T]:
    return rows if wide else rows[:_SHOWN]


def _more(count: int, wide: bool, noun: str) -> Iterator[str]:
    if count > _SHOWN and not wide:
        yield f"... and {many(count - _SHOWN, f'more {noun}')} (-o wide shows all)"


def failure_words(failure: Failure, *, wide: bool) -> Iterator[str]:
    """`corral simulate fail`."""
    names = ", ".join(failure.died) if len(failure.died) <= _NAMED else f"{len(failure.died):,}"
    lost = sum(loss.lost for loss in failure.bands)
    displaced = sum(loss.displaced for loss in failure.bands)
    head = f"{names} of {many(failure.before.machines, 'machine')} die: {many(displaced, 'pod')} must move"
    yield f"{head}, and all find a machine." if failure.survives else f"{head}; {many(lost, 'pod')} find no machine."
    yield ""
    header = ["BAND", "RUNNING", "DISPLACED", "PUSHED OUT", "PLACED AGAIN", "LOST", "ENDED WITH MACHINE"]
    rows = []
    for loss in failure.bands:
        counts = (loss.running, loss.displaced, loss.pushed_out, loss.placed, loss.lost, loss.ended)
        rows.append([loss.band, *(f"{count:,}" for count in counts)])
    yield columns(header, rows)
    yield ""
    yield _resources(failure.before, failure.after)
    yield from _refused(failure.refusals, wide)
    yield from _places(failure.outcome.placed, wide)


def compaction_words(found: Mapping[str, Compaction], machines: int, pods: int) -> Iterator[str]:
    """`corral simulate compact`."""
    best = min(found, key=lambda name: found[name].result)
    needed = found[best].result
    less = (
        f"{needed:,} of {many(machines, 'machine')}"
        if needed <= machines
        else f"{many(needed, 'machine')}, not {machines:,},"
    )
    yield f"{less} hold {many(pods, 'pod')}" + (f", placed by {best}." if len(found) > 1 else ".")
    yield ""
    rows = []
    for name, one in found.items():
        counts = (one.result, min(one.needed), max(one.needed), one.bound)
        rows.append([name, *(f"{count:,}" for count in counts)])
    yield columns(["PROFILE", "NEEDED", "MIN", "MAX", "BOUND"], rows)


def timeline_words(line: Timeline, *, wide: bool) -> Iterator[str]:
    """`corral simulate run`."""
    if not line.waits:
        yield "Nothing happens: no pod comes."
        return
    pods, ran = sum(row.pods for row in line.waits), sum(row.ran for row in line.waits)
    never = "every one ran" if ran == pods else f"{many(pods - ran, 'pod')} never ran"
    yield f"{many(pods, 'pod')} on {many(line.machines, 'machine')} in {_time(line.span)}: {never}."
    yield ""
    rows = [
        [name, amount(name, there), f"{line.mean(name) / there:.1%}", f"{max(line.used[name], default=0) / there:.1%}"]
        for name, there in line.capacity.items()
        if name != PODS and any(line.used[name])
    ]
    yield columns(["RESOURCE", "THERE IS", "MEAN", "PEAK"], rows)
    yield ""
    rows = [
        [
            *(row.band, f"{row.pods:,}", f"{row.ran:,}", f"{row.pushed_out:,}"),
            *(_time(seconds) for seconds in (row.median, row.p90, row.p99, row.longest)),
        ]
        for row in line.waits
    ]
    yield columns(["BAND", "PODS", "RAN", "PUSHED OUT", "WAIT P50", "P90", "P99", "LONGEST"], rows)
    yield from _refused(line.refusals, wide)


def _time(seconds: float) -> str:
    return human_duration(seconds) if seconds else "0"


def policy_words(fits: Sequence[Fit]) -> Iterator[str]:
    """`corral simulate policy`."""
    used = (use.name for use in fits[0].after.resources if any(_use(fit, use.name).used for fit in fits))
    names = [name for name in used if name != PODS]
    header = [
        "PROFILE",
        "PLACED",
        "STAY OUT",
        "MACHINES IN USE",
        *(f"{name.upper()} USED (STRANDED)" for name in names),
    ]
    rows = []
    for fit in fits:
        uses = [_use(fit, name) for name in names]
        counts = (len(fit.outcome.placed), len(fit.outcome.refused), fit.after.in_use)
        shares = (f"{use.share(use.used):.1%} ({use.share(use.stranded):.1%})" for use in uses)
        rows.append([fit.profile, *(f"{count:,}" for count in counts), *shares])
    yield columns(header, rows)


def _use(fit: Fit, name: str) -> ResourceUse:
    found: Mapping[str, ResourceUse] = {use.name: use for use in fit.after.resources}
    return found.get(name, ResourceUse(name, 0, 0, 0))

"""The simulator's answers as pictures, drawn with matplotlib (`corral[plot]`)."""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.base.errors import CorralError
from corral.scheduler.simulator.compaction import Compaction
from corral.scheduler.simulator.failure import Failure
from corral.scheduler.simulator.fit import Fit
from corral.scheduler.simulator.timeline import Timeline
from corral.scheduler.snapshot import PODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which people who see fewer colours can tell apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_BEFORE, _ADDED, _FREE, _STRANDED = "#8C96A0", "#0072B2", "#E3E8EC", "#E69F00"
_LOST, _MOVED = "#D55E00", "#009E73"
_TEXT, _FAINT = "#22282E", "#6B757E"
_FEW_MACHINES = 3000
_UNITS = (("days", 86400), ("hours", 3600), ("minutes", 60))
_STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": "#B8C0C7",
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E3E8EC",
    "text.color": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}


def check(path: Path | None) -> None:
    """Refuse early what could not be drawn in the end.

    Raises:
        CorralError: matplotlib is missing, or the name says no format that it writes.
    """
    if path is None:
        return
    if path.suffix.lower() not in _FORMATS:
        raise CorralError(f"cannot draw {path}: its name says no format", f"end it with {', '.join(_FORMATS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CorralError("cannot draw a plot: matplotlib is not installed", "pip install 'corral[plot]'")


@contextmanager
def _figure(path: Path, width: float, height: float) -> "Iterator[Figure]":
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            figure.savefig(path, dpi=120)
        except OSError as error:
            reason = f"cannot write {path}: {error.strerror or error}"
            raise CorralError(reason, "name another file") from error


def _percent(axis: "Axes", which: str) -> None:
    from matplotlib.ticker import PercentFormatter

    (axis.xaxis if which == "x" else axis.yaxis).set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(axis="x" if which == "x" else "y")


def draw_fit(fit: Fit, path: Path) -> None:
    """How full each resource is before and after, and each machine by cpu and memory."""
    with _figure(path, 9.6, 3.9) as figure:
        bars, dots = figure.subplots(1, 2, width_ratios=(5, 4))
        _fit_bars(bars, fit)
        _machine_dots(dots, fit)
        placed, asked = len(fit.outcome.placed), fit.asked
        figure.suptitle(
            f"{placed:,} of {asked:,} pods placed on {fit.after.machines:,} machines ({fit.profile})",
            x=0.01, ha="left", fontweight="bold",
        )  # fmt: skip


def _fit_bars(axis: "Axes", fit: Fit) -> None:
    earlier = {use.name: use for use in fit.before.resources}
    uses = [use for use in reversed(fit.after.resources) if use.used and use.allocatable and use.name != PODS]
    names = [use.name for use in uses]
    before = [min(earlier[use.name].used if use.name in earlier else 0, use.used) for use in uses]
    parts = (
        ("taken before", _BEFORE, [use.share(first) for use, first in zip(uses, before, strict=True)]),
        ("placed now", _ADDED, [use.share(use.used - first) for use, first in zip(uses, before, strict=True)]),
        ("free", _FREE, [max(0.0, use.share(use.free - use.stranded)) for use in uses]),
        ("stranded", _STRANDED, [use.share(min(use.stranded, use.free)) for use in uses]),
    )
    left = [0.0] * len(uses)
    for label, colour, widths in parts:
        if any(widths):
            axis.barh(names, widths, left=left, height=0.55, label=label, color=colour)
            left = [start + width for start, width in zip(left, widths, strict=True)]
    for row, use in enumerate(uses):
        share = use.share(use.used)
        axis.text(min(share, 1.0) - 0.012, row, f"{share:.1%}", va="center", ha="right", color="white", fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of what the machines have")
    axis.tick_params(axis="y", length=0)
    _percent(axis, "x")
    axis.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, fontsize=9, handlelength=1, columnspacing=1.2)


def _machine_dots(axis: "Axes", fit: Fit) -> None:
    cpu, memory = fit.shares.get("cpu", ()), fit.shares.get("memory", ())
    if len(cpu) <= _FEW_MACHINES:
        axis.scatter(cpu, memory, s=22, alpha=0.35, color=_ADDED, edgecolors="none", clip_on=False)
    else:
        axis.hexbin(cpu, memory, gridsize=40, extent=(0, 1, 0, 1), cmap="Blues", bins="log", mincnt=1)
    axis.set_title("Each machine", fontsize=10)
    axis.set_xlabel("cpu requested")
    axis.set_ylabel("memory requested")
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    _percent(axis, "x")
    _percent(axis, "y")
    axis.grid(axis="both")


def draw_compactions(found: Mapping[str, Compaction], machines: int, path: Path) -> None:
    """How many machines each profile needed in each trial, beside the volume bound."""
    with _figure(path, 9.0, 1.9 + 0.62 * len(found)) as figure:
        axis = figure.subplots()
        names = list(found)[::-1]
        for row, name in enumerate(names):
            one, colour = found[name], _COLOURS[list(found).index(name) % len(_COLOURS)]
            axis.plot(
                [min(one.needed), max(one.needed)], [row, row], color=colour, alpha=0.35, lw=7, solid_capstyle="round"
            )
            axis.scatter(one.needed, [row] * len(one.needed), s=26, color=colour, alpha=0.6, edgecolors="none")
            axis.scatter([one.result], [row], marker="|", s=420, color=colour, linewidths=2.5, zorder=3)
            axis.text(one.result, row + 0.2, f"{one.result:,}", color=colour, fontweight="bold", ha="center")
        bounds = [found[name].bound for name in names]
        axis.scatter(bounds, range(len(names)), marker="|", s=900, color=_FAINT, linewidths=1.4, label="volume bound")
        if machines <= 1.5 * max(max(one.needed) for one in found.values()):
            axis.axvline(machines, color=_FAINT, lw=1.2, ls="--", zorder=0, label=f"there are {machines:,}")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(-0.6, len(names) - 0.3)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
        axis.set_xlabel("machines that hold the load (dots: trials; bar: 90th percentile)")
        axis.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, fontsize=9, handlelength=2, markerscale=0.4)
        figure.suptitle("How few machines would do", x=0.01, ha="left", fontweight="bold")


def draw_failure(failure: Failure, path: Path) -> None:
    """What became of each band's pods."""
    with _figure(path, 9.0, 1.9 + 0.55 * len(failure.bands)) as figure:
        axis = figure.subplots()
        losses = list(reversed(failure.bands))
        left = [0.0] * len(losses)
        parts = (
            ("not touched", _FREE, [loss.running - loss.placed - loss.lost - loss.ended for loss in losses]),
            ("ended with their machine", _BEFORE, [loss.ended for loss in losses]),
            ("placed again", _MOVED, [loss.placed for loss in losses]),
            ("no machine", _LOST, [loss.lost for loss in losses]),
        )
        for label, colour, counts in parts:
            widths = [count / loss.running for count, loss in zip(counts, losses, strict=True)]
            if any(counts):
                axis.barh([loss.band for loss in losses], widths, left=left, height=0.55, label=label, color=colour)
            for row, (count, width) in enumerate(zip(counts, widths, strict=True)):
                if count and width > 0.05:
                    shade = _TEXT if colour == _FREE else "white"
                    axis.text(
                        left[row] + width / 2, row, f"{count:,}", va="center", ha="center", color=shade, fontsize=9
                    )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the band's running pods")
        axis.tick_params(axis="y", length=0)
        _percent(axis, "x")
        axis.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, fontsize=9, handlelength=1, columnspacing=1.2
        )
        died, there = len(failure.died), failure.before.machines
        figure.suptitle(f"After {died:,} of {there:,} machines died", x=0.01, ha="left", fontweight="bold")


def draw_timeline(line: Timeline, path: Path) -> None:
    """How full the machines were, and how many pods waited, over time."""
    unit, seconds = next(((name, size) for name, size in _UNITS if line.span >= 2 * size), ("seconds", 1))
    times = [moment / seconds for moment in line.times] or [0.0]
    with _figure(path, 9.0, 5.0) as figure:
        from matplotlib.ticker import MaxNLocator

        used, waiting = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
        names = [name for name in line.capacity if name != PODS and any(line.used[name])]
        for name, colour in zip(names, itertools.cycle(_COLOURS), strict=False):
            shares = [amount / line.capacity[name] for amount in line.used[name]]
            label = f"{name} (mean {line.mean(name) / line.capacity[name]:.0%})"
            used.step(times, shares, where="post", color=colour, lw=1.4, label=label)
        used.set_ylim(0, 1.02)
        used.set_ylabel("requested")
        _percent(used, "y")
        used.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, fontsize=9, handlelength=1.5)
        waiting.fill_between(times, line.waiting, step="post", color=_LOST, lw=0, alpha=0.85)
        waiting.set_ylim(bottom=0)
        waiting.set_ylabel("pods that wait")
        waiting.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        waiting.grid(axis="y")
        waiting.set_xlabel(f"time ({unit})")
        waiting.set_xlim(times[0], times[-1] if times[-1] > times[0] else times[0] + 1)
        figure.suptitle(f"How the load plays out on {line.machines:,} machines", x=0.01, ha="left", fontweight="bold")


def draw_policies(fits: Sequence[Fit], path: Path) -> None:
    """Profiles side by side: what is placed, on how many machines, and what is stranded."""
    used = (use.name for use in fits[0].after.resources if use.used and use.name != PODS)
    names = ["pods placed", "machines in use", *(f"{name} stranded" for name in used)]
    with _figure(path, max(7.0, 2.2 + 1.6 * len(names)), 4.0) as figure:
        axis = figure.subplots()
        width = 0.8 / len(fits)
        for number, fit in enumerate(fits):
            stranded = {f"{use.name} stranded": use.share(use.stranded) for use in fit.after.resources}
            values = [
                len(fit.outcome.placed) / max(fit.asked, 1),
                fit.after.in_use / max(fit.after.machines, 1),
                *(stranded.get(name, 0.0) for name in names[2:]),
            ]
            at = [place + (number - (len(fits) - 1) / 2) * width for place in range(len(names))]
            colour = _COLOURS[number % len(_COLOURS)]
            drawn = axis.bar(at, values, width * 0.92, label=fit.profile, color=colour)
            axis.bar_label(drawn, labels=[f"{value:.1%}" for value in values], fontsize=8, padding=2)
        axis.set_xticks(range(len(names)), names)
        axis.tick_params(axis="x", length=0)
        axis.set_ylim(0, 1.08)
        axis.set_ylabel("share of all")
        _percent(axis, "y")
        axis.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(fits), fontsize=9, handlelength=1)
        figure.suptitle("The same load, placed by other rules", x=0.01, ha="left", fontweight="bold")

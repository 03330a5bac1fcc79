"""`corral simulate`: what would happen, decided by the scheduler's own code on a copy of the cell."""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, wraps
from pathlib import Path
from typing import Any

import click

from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.session import finish
from corral.cli.simulation import plots, results, sources, tables
from corral.cli.simulation.bar import bar
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Obj
from corral.scheduler import plugins
from corral.scheduler.profile import SPREADING, Profile
from corral.scheduler.simulator.cell import Progress, SimulatedCell
from corral.scheduler.simulator.compaction import Compaction, compact
from corral.scheduler.simulator.failure import choose, fail, labelled
from corral.scheduler.simulator.fit import fit
from corral.scheduler.simulator.scenario import Scenario, asks, without_volumes
from corral.scheduler.simulator.timeline import play

_ZONE = "topology.kubernetes.io/zone"
_FILE = click.Path(path_type=Path)
_SOURCES = (
    click.option("-f", "--from", "manifests", multiple=True, metavar="FILE|DIR",
                 help="Nodes, Pods and workloads as YAML or JSON (`kubectl get nodes,pods -A -o json`)."),
    click.option("--machines", multiple=True, type=_FILE, metavar="CSV", help="Machines, one or `count` a row."),
    click.option("--workloads", multiple=True, type=_FILE, metavar="CSV", help="Workloads, one a row."),
    click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cell."),
    click.option("--data-dir", metavar="DIR", envvar="CORRAL_DATA_DIR", help="Data directory of a cell here."),
)  # fmt: skip
_ANSWER = (
    click.option("--seed", type=int, default=1, show_default=True, help="Breaks ties; the same seed, the same answer."),
    click.option("-o", "--output", type=click.Choice(["wide", "json"]), help="Output format."),
    click.option("--plot", type=_FILE, metavar="PNG", help="Draw the answer, too."),
)
_PROFILE = click.option(
    "--profile",
    default=SPREADING.name,
    show_default=True,
    metavar="NAME",
    help="Places pods that name no other.",
)

_PROFILES = click.option("--profiles", default="", metavar="NAMES", help="Compare these only, such as packing,hybrid.")


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    "simulate",
    cls=_InOrder,
    short_help="Ask what would happen: does it fit, how few machines would do, what if some die.",
)
def command() -> None:
    """Ask what would happen, and touch nothing: the scheduler's own code decides on a copy of the cell.

    The copy is of the live cell, together with what --from and --workloads add to it; if a file has machines, the live
    cell is left out. Keep a copy with `corral simulate save`.
    """


def _simulation(*extra: Callable[..., Any]) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a subcommand of a function that takes the scenario first; it has the options of all, and `extra`."""

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        @wraps(function)
        def subcommand(
            *, manifests: Sequence[str], machines: Sequence[Path], workloads: Sequence[Path], kubeconfig: str | None,
            data_dir: str | None, **options: Any,
        ) -> None:  # fmt: skip
            def work() -> int | None:
                plots.check(options.get("plot"))
                given = sources.Sources(manifests, machines, workloads, kubeconfig, data_dir)
                scenario = sources.load(given)
                for line in scenario.notes:
                    terminal.note(line)
                if not scenario.machines:
                    remedy = "start a machine, or name files that have some"
                    raise CorralError("cannot simulate a cell without a machine", remedy)
                return function(scenario, **options)

            finish(work)

        for option in reversed((*extra, *_SOURCES)):
            subcommand = option(subcommand)
        return subcommand

    return decorate


def _profile(name: str) -> Profile:
    known = _profiles()
    if name not in known:
        raise CorralError(f"cannot place by {name!r}: there is no such profile", f"choose of {', '.join(known)}")
    return known[name]


@cache
def _profiles() -> Mapping[str, Profile]:
    """Those that come with Corral and those of installed packages."""
    return plugins.load().by_name()


def _chosen(names: str) -> list[Profile]:
    return [_profile(name) for name in dict.fromkeys(names.replace(",", " ").split() or _profiles())]


def _cell(scenario: Scenario, profile: str, *, keep: bool = True) -> SimulatedCell:
    """As the live cell has it: a pod that asks for another profile is placed by that."""
    return SimulatedCell(scenario, _profile(profile), _profiles(), keep=keep)


@command.command("fit", short_help="Does it fit? Where what waits would go, and why the rest stays out.")
@_simulation(
    _PROFILE,
    click.option("--repack", is_flag=True, help="Place what runs anew, too, instead of leaving it where it is."),
    *_ANSWER,
)
def fit_command(
    scenario: Scenario, profile: str, repack: bool, seed: int, output: str | None, plot: Path | None
) -> int:
    """Place the pods that wait, and say where they go and why others go nowhere.

    STRANDED is what is free on machines where it is of no use to a pod of this load that asks for it. The exit code is
    0 if everything fits, else 1.
    """
    cell = _cell(scenario, profile, keep=not repack)
    with bar("placing pods") as progress:
        answer = fit(cell, datetime.now(UTC), random.Random(seed), progress)
    _show(output, {"seed": seed, **results.of_fit(answer)}, tables.fit_words(answer, wide=output == "wide"))
    if plot is not None:
        plots.draw_fit(answer, plot)
    return 0 if answer.fits else 1


@command.command("fail", short_help="What if machines die? Who moves, who is pushed out, who is lost.")
@click.argument("names", nargs=-1, metavar="[MACHINE]...")
@_simulation(
    click.option("--count", type=click.IntRange(min=1), help="So many machines, at random."),
    click.option("--zone", help="All machines of a zone."),
    click.option("-l", "--selector", metavar="LABELS", help="All machines with these labels."),
    _PROFILE,
    *_ANSWER,
)
def fail_command(
    scenario: Scenario, names: tuple[str, ...], count: int | None, zone: str | None, selector: str | None, profile: str,
    seed: int, output: str | None, plot: Path | None,
) -> int:  # fmt: skip
    """Let machines die at once, and place their pods anew: the more important push out the less important.

    What waits is placed before. Pods of a DaemonSet end with their machine. The exit code is 0 if every pod finds
    another machine, else 1.
    """
    cell, rng = _cell(scenario, profile), random.Random(seed)
    if sum(map(bool, (names, count, zone, selector))) != 1:
        raise CorralError("cannot tell which machines die", "name them, or give one of --count, --zone and --selector")
    if count:
        dying = choose(cell, count, rng)
    elif zone or selector:
        dying = labelled(cell, LabelSelector.parse(selector or f"{_ZONE}={zone}"))
    else:
        dying = list(dict.fromkeys(names))
    with bar("placing pods") as progress:
        answer = fail(cell, dying, datetime.now(UTC), rng, progress)
    _show(output, {"seed": seed, **results.of_failure(answer)}, tables.failure_words(answer, wide=output == "wide"))
    if plot is not None:
        plots.draw_failure(answer, plot)
    return 0 if answer.survives else 1


@command.command("compact", short_help="How few machines would do? Cell compaction.")
@_simulation(
    _PROFILES,
    click.option("--trials", type=click.IntRange(1, 1000), default=11, show_default=True, help="Random orders tried."),
    click.option("--pending", type=click.FloatRange(0, 100), default=0.2, show_default=True, metavar="PERCENT",
                 help="So much of the pods may find no machine, for those that only few machines take."),
    *_ANSWER,
)  # fmt: skip
def compact_command(
    scenario: Scenario, profiles: str, trials: int, pending: float, seed: int, output: str | None, plot: Path | None
) -> None:
    """Take machines away at random, and pack what is left anew, until the load no longer fits.

    NEEDED is the 90th percentile of the trials: what to go by to be reasonably sure. BOUND is how many would do if all
    pods were liquid. A load that is too large is tried on several such cells. The measure is Borg's (EuroSys'15, 5.1).
    Where volumes are is left out, and pods of gangs are packed one by one.
    """
    chosen = _chosen(profiles)
    pods = [without_volumes(pod) for pod in scenario.pods if asks(pod)]
    found: dict[str, Compaction] = {}
    with bar("packing") as progress:
        for profile in chosen:
            rng, before = random.Random(seed), len(found) * trials

            def told(done: int, _: int, before: int = before) -> None:
                progress(before + done, trials * len(chosen))

            progress(before, trials * len(chosen))
            found[profile.name] = _compact(scenario.machines, pods, profile, rng, trials, pending / 100, told)
    there = len(scenario.machines)
    data = {"seed": seed, "machines": there, "pods": len(pods), "profiles": results.of_compactions(found)}
    _show(output, data, tables.compaction_words(found, there, len(pods)))
    if plot is not None:
        plots.draw_compactions(found, there, plot)


def _compact(
    machines: Sequence[Obj], pods: Sequence[Obj], profile: Profile, rng: random.Random, trials: int, pending: float,
    told: Progress,
) -> Compaction:  # fmt: skip
    try:
        return compact(machines, pods, profile=profile, rng=rng, trials=trials, pending_allowed=pending, progress=told)
    except ValueError as error:
        raise CorralError(str(error), "see which with `corral simulate fit --repack`") from error


@command.command("policy", short_help="What if pods were placed by other rules? Profiles side by side.")
@_simulation(
    _PROFILES,
    *_ANSWER,
)
def policy_command(scenario: Scenario, profiles: str, seed: int, output: str | None, plot: Path | None) -> None:
    """Pack everything anew, what runs and what waits, by each of several profiles."""
    answers = []
    for profile in _chosen(profiles):
        cell = SimulatedCell(scenario, profile, dict.fromkeys(_profiles(), profile), keep=False)
        with bar(f"placing pods by {profile.name}") as progress:
            answers.append(fit(cell, datetime.now(UTC), random.Random(seed), progress))
    _show(output, {"seed": seed, "profiles": [results.of_fit(one) for one in answers]}, tables.policy_words(answers))
    if plot is not None:
        plots.draw_policies(answers, plot)


@command.command("run", short_help="How does it play out? Pods come and go; who waits how long.")
@_simulation(_PROFILE, *_ANSWER)
def run_command(scenario: Scenario, profile: str, seed: int, output: str | None, plot: Path | None) -> None:
    """Let pods come and go, and say how full the machines were and how long pods waited.

    When a workload comes and how long it runs is in the columns `start` and `duration` (or `end`) of --workloads, in
    seconds; what has no duration stays. A pod that is pushed out starts over.
    """
    cell = _cell(scenario, profile)
    with bar("arrivals and departures") as progress:
        answer = play(cell, scenario.spans, datetime.now(UTC), random.Random(seed), progress)
    _show(output, {"seed": seed, **results.of_timeline(answer)}, tables.timeline_words(answer, wide=output == "wide"))
    if plot is not None:
        plots.draw_timeline(answer, plot)


@command.command("save", short_help="Write what placement knows of the cell to a file, to simulate from later.")
@click.argument("path", type=_FILE, metavar="FILE")
@_simulation()
def save_command(scenario: Scenario, path: Path) -> None:
    """Write machines, pods, namespaces and disruption budgets to FILE (`-`: to stdout); read it with --from.

    Only what placement looks at is written: no images, commands, environments or secrets. The format is JSON, or YAML
    if FILE ends in .yaml.
    """
    count = sources.save(scenario, path)
    terminal.note(f"wrote {count:,} objects to {path}")


def _show(output: str | None, data: dict[str, Any], words: Iterable[str]) -> None:
    click.echo(json.dumps(data, indent=4) if output == "json" else "\n".join(words))

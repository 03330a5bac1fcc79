"""`corral up`: start a cell on this machine."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol, TypeAlias
from urllib.parse import urlsplit

import click

from corral.app import detach as detaching
from corral.app import joining, options
from corral.app.config import DEFAULT_PORT, MEMBER_FILE, CellConfig, Engine, prepare_data_dir
from corral.app.fleet.layout import MOST, Fleet
from corral.app.fleet.opening import open_fleet
from corral.app.ports import check_port
from corral.app.process import AlreadyRuns, running_pid, sole_owner
from corral.app.stores import remembered
from corral.base import memory
from corral.base.checks import Check
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.kinds.health import PROFILES


@click.command("up", short_help="Start a cell on this machine.")
@options.data_dir
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help=f"Port of the API; 0 is any free one. Where it was last by default, {DEFAULT_PORT} at first.",
)
@click.option(
    "--bind", default="0.0.0.0", show_default=True, metavar="ADDRESS", help="Address that the API listens on."
)
@click.option("--node-name", default="", metavar="NAME", help="Name of this machine; its host name otherwise.")
@options.engine
@click.option(
    "--store",
    default="",
    metavar="URL",
    help="Keep state in etcd://HOST:PORT,...?ca=FILE&cert=FILE&key=FILE; where it was last by default.",
)
@click.option(
    "--join-server",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="KUBECONFIG",
    help="Be one more server of the cell whose administrator's kubeconfig this is.",
)
@click.option(
    "--scheduler-profile",
    default="spreading",
    show_default=True,
    metavar="NAME",
    help="How machines are chosen: spreading, packing, hybrid, or one of an installed package.",
)
@click.option(
    "--health-profile",
    type=click.Choice(list(PROFILES)),
    default="default",
    show_default=True,
    help="How soon a silent machine is given up: its pods run elsewhere after about 5 s, 10 s or 6 min.",
)
@click.option("-d", "--detach", is_flag=True, help="Return when the cell is ready; it runs on in the background.")
@click.option(
    "--machines",
    type=click.IntRange(1, MOST),
    metavar="N",
    help="Be a fleet: the server here, and N machines, m1 to mN, in network namespaces of their own.",
)
@click.option("--capacity", default="", metavar="R=N,...", help="What pods may have on each of --machines.")
@click.option("--no-agent", is_flag=True, help="Server, scheduler and controllers only: run nothing on this machine.")
def command(
    data_dir: Path,
    port: int | None,
    bind: str,
    node_name: str,
    engine: Engine,
    store: str,
    join_server: Path | None,
    scheduler_profile: str,
    health_profile: str,
    detach: bool,
    no_agent: bool,
    machines: int | None,
    capacity: str,
) -> None:
    """Start a cell: API server, scheduler, controllers and this machine's agent, in one process.

    Containers outlive the process: after a crash or an upgrade the next `up` finds them running.
    """
    config = CellConfig(data_dir.absolute(), bind, 0, not no_agent, node_name, engine, store, scheduler_profile)
    port = last_port(config.kubeconfig) if port is None else port
    config = replace(config, port=port, health_profile=health_profile)
    try:
        prepare_data_dir(config)
        if (config.data_dir / MEMBER_FILE).exists():
            raise CorralError(
                f"cannot start a cell in {config.data_dir}: it is that of a machine that has joined one",
                f"start the machine (corral join --data-dir {config.data_dir}), or choose another --data-dir",
            )
        pid = running_pid(config)
        if pid:
            _say_running(config, pid)
            return
        fleet = open_fleet(config, machines or 0, options.amounts(capacity))
        if join_server is not None:
            found = joining.join(config, join_server)
            config = replace(config, store=config.store or found)
        config = replace(config, store=config.store or remembered(config.data_dir))
        if detach:
            code = detaching.detached(config, ["up", *_arguments(config)])
        else:
            code = _serve_cell(config, fleet)
    except AlreadyRuns as error:
        _say_running(config, error.pid)
        code = 0
    except CorralError as error:
        terminal.error(error)
        code = 1
    raise SystemExit(code)


def _say_running(config: CellConfig, pid: int) -> None:
    click.echo(AlreadyRuns(config, pid).message)
    click.echo(f"  export KUBECONFIG={config.kubeconfig}")


def last_port(kubeconfig: Path) -> int:
    """Where machines that have joined, and people's kubeconfigs, look for the API."""
    from corral.client.kubeconfig import KubeconfigError, load

    try:
        return urlsplit(load(kubeconfig).server).port or DEFAULT_PORT
    except (KubeconfigError, OSError, ValueError):
        return DEFAULT_PORT


def _arguments(config: CellConfig) -> list[str]:
    """The command line that starts this very cell in the foreground."""
    arguments = ["--data-dir", str(config.data_dir), "--port", str(config.port), "--bind", config.host]
    arguments += ["--node-name", config.node_name] if config.node_name else []
    arguments += ["--engine", config.engine, "--scheduler-profile", config.scheduler_profile]
    arguments += ["--health-profile", config.health_profile]
    arguments += ["--store", config.store] if config.store else []
    return arguments if config.agent else [*arguments, "--no-agent"]


def _serve_cell(config: CellConfig, fleet: Fleet | None) -> int:
    from corral.app.cell import running_cell
    from corral.app.fleet.cell import running_fleet

    start = partial(running_cell, config)
    if fleet is not None and config.agent:
        start = partial(running_fleet, replace(fleet, config=config))
    return serve(config, start, ready="cell ready", kubeconfig=config.kubeconfig)


class Running(Protocol):
    """What runs until it fails or is ended."""

    async def failed(self) -> BaseException:
        """Returns when a part has failed, with its error."""


Start: TypeAlias = "Callable[[Checklist], AbstractAsyncContextManager[Running]]"


def serve(config: CellConfig, start: Start, *, ready: str, kubeconfig: Path | None = None) -> int:
    """Run a cell or a machine in this process until SIGINT or SIGTERM; returns the exit code."""
    began = time.monotonic()
    _log_to_stderr()
    _keep_secrets_and_descriptors()
    report = Checklist()
    if config.agent:
        preflight(report)
    with sole_owner(config):
        from corral.wire.loops import run

        if kubeconfig is not None:
            checked = time.monotonic()
            report("port", check_port(config), time.monotonic() - checked)
        try:
            return run(_serve(start, report, began, ready, kubeconfig))
        except asyncio.CancelledError:
            return 130


async def _serve(start: Start, report: "Checklist", began: float, ready: str, kubeconfig: Path | None) -> int:
    stop = asyncio.Event()
    serving = asyncio.current_task()
    assert serving is not None

    def end() -> None:
        # A cell that is still starting waits for parts of its own, not for this event.
        if stop.is_set() or not report.ready:
            serving.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    async with start(report) as running:
        memory.settle()
        report.ready = True
        report.line(f"{ready} in {terminal.duration(time.monotonic() - began)}")
        if kubeconfig is not None:
            report.line(f"  export KUBECONFIG={kubeconfig}")
        detaching.tell_ready()
        stopped = asyncio.create_task(stop.wait(), name="stop")
        failed = asyncio.create_task(running.failed(), name="failure")
        await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not failed.done():
            failed.cancel()
            report.line("stopping; containers run on (`corral down` stops them too)")
            return 0
        error = failed.result()
    raise error


def _keep_secrets_and_descriptors() -> None:
    """A crash leaves no core file, which would hold every secret; clients may hold as many sockets as the machine
    allows, where the usual thousand would be a few watchers' worth."""
    import resource

    _, core = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, core))
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def _log_to_stderr() -> None:
    import logging

    level = os.environ.get("CORRAL_LOG", "warning").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


class Checklist:
    """The steps of a start as lines on stdout: a mark, a name, what was found, how long it took."""

    ready = False

    def __call__(self, name: str, what: str, seconds: float) -> None:
        self.line(f"{_mark('ok')} {name:<15} {what} ({terminal.duration(seconds)})")

    def line(self, text: str) -> None:
        # Whoever reads the checklist may have gone, or the disk that it goes to may be full; the cell goes on.
        with contextlib.suppress(OSError):
            click.echo(text)
            sys.stdout.flush()


def _mark(word: str) -> str:
    if not terminal.colour(sys.stdout):
        return f"{word:<4}"
    return click.style(f"{word:<4}", fg={"ok": "green", "warn": "yellow"}.get(word, "red"))


def preflight(report: Checklist, more: Callable[[], Sequence[Check]] = list) -> None:
    """Check the machine, and `more` of it, a line each.

    Raises:
        CorralError: something is missing; the remedy has the command that installs it.
    """
    from corral.agent.preflight import checks

    began = time.monotonic()
    missing = []
    for check in chain(checks(), more()):
        now = time.monotonic()
        tell(report, check, now - began)
        if not check.ok and check.level == "needed":
            missing.append(check)
        began = now
    if missing:
        raise CorralError(
            f"cannot start an agent on this machine: {', '.join(check.name for check in missing)}",
            "do what the lines above say and start again; or start without an agent: corral up --no-agent",
        )


def tell(report: Checklist, check: Check, seconds: float) -> None:
    """A line of the checklist, and one with the remedy where something is missing."""
    if check.ok:
        report(check.name, check.detail, seconds)
        return
    mark = _mark("warn" if check.level == "wanted" else "FAIL")
    report.line(f"{mark} {check.name:<15} {check.detail}")
    report.line(f"       remedy: {check.remedy}")

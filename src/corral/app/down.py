"""`corral down`: stop the cell on this machine."""

import asyncio
import logging
import time
from pathlib import Path

import click

from corral.app import options
from corral.app.config import CellConfig
from corral.app.fleet import layout
from corral.app.process import end, running_pid
from corral.app.stores import remembered
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.store.etcd.address import SCHEME

SHUTDOWN_SECONDS = 30.0


@click.command("down", short_help="Stop a cell and its containers; its state stays.")
@options.data_dir
@click.option("--keep-containers", is_flag=True, help="Leave the containers running for the next `up`.")
@click.option("-t", "--time", "grace", default=10.0, show_default=True, metavar="SECONDS", help="Grace before SIGKILL.")
def command(data_dir: Path, keep_containers: bool, grace: float) -> None:
    """Stop the cell of --data-dir and its containers. Its state stays: the next `up` goes on with it."""
    config = CellConfig(data_dir.absolute())
    began = time.monotonic()
    try:
        if not config.data_dir.exists():
            raise CorralError(f"cannot stop a cell in {config.data_dir}: no such directory", "name its --data-dir")
        pid = running_pid(config)
        if pid and not end(pid, SHUTDOWN_SECONDS):
            raise CorralError(f"cannot stop pid {pid}: it did not end in {SHUTDOWN_SECONDS:.0f} s", f"kill -9 {pid}")
        stopped = 0
        # What this machine lacks was said by `up`.
        logging.basicConfig(level=logging.ERROR)
        fleet = layout.load(config)
        if fleet is not None:
            from corral.app.fleet.closing import close

            stopped = asyncio.run(close(fleet, grace, keep_containers=keep_containers))
        elif not keep_containers and config.agent_dir.exists():
            from corral.app.containers import stop_all
            from corral.wire.loops import run

            stopped = run(stop_all(config, grace))
    except CorralError as error:
        terminal.error(error)
        raise SystemExit(1) from error
    took = terminal.duration(time.monotonic() - began)
    kept = "containers run on" if keep_containers else f"{stopped} containers stopped"
    if keep_containers and remembered(config.data_dir).startswith(SCHEME):
        # A refused connection excuses nobody there: another server may run (decision 17).
        terminal.note(
            "unless another server runs, other machines soon stop what may run elsewhere (by default after 5 s)"
        )
    click.echo(f"the cell in {config.data_dir} {'is down' if pid else 'was not running'}; {kept} ({took})")

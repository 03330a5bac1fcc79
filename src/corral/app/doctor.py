"""`corral doctor`: does this machine have what a cell needs?"""

import click

from corral.agent.trials import trials
from corral.app.up import Checklist, preflight
from corral.base.errors import CorralError
from corral.cli import terminal


@click.command("doctor", short_help="Check that this machine has what a cell needs.")
def command() -> None:
    """Check this machine: kernel, cgroups, container runtime, network plugins, image tools. Exit code 1 if a part is
    missing; each line says how to get it."""
    try:
        preflight(Checklist(), trials)
    except CorralError as error:
        terminal.error(error)
        raise SystemExit(1) from error
    click.echo("this machine can run a cell: corral up")

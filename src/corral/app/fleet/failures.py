"""`corral machine`, with the failures that can be played on a fleet of `corral up --machines`."""

import asyncio
from pathlib import Path

import click

from corral.app import options
from corral.app.config import CellConfig
from corral.app.fleet import agents, layout, links, power
from corral.app.fleet.layout import Fleet, Machine
from corral.base.errors import CorralError
from corral.cli import terminal
from corral.cli.machine import command

__all__ = ["command"]


def _find(data_dir: Path, name: str) -> tuple[Fleet, Machine]:
    config = CellConfig(data_dir.absolute())
    fleet = layout.load(config)
    if fleet is None:
        raise CorralError(
            f"cannot play failures in {config.data_dir}: it has no machines of its own",
            "start some: corral up --machines 3 --data-dir DIR",
        )
    return fleet, fleet.find(name)


def _plugged(data_dir: Path, name: str) -> Machine:
    _, machine = _find(data_dir, name)
    if not links.is_plugged(machine):
        raise CorralError(f"cannot reach {name}: it is switched off", f"corral machine heal {name}")
    return machine


@command.command("kill")
@options.data_dir
@click.argument("name", metavar="NAME")
def kill(data_dir: Path, name: str) -> None:
    """Cut the power of a machine of `corral up --machines`.

    Its link goes down, and its agent and all of its containers die at once. Nothing starts it again but `heal`, or a
    new `up` after `down`.
    """
    with terminal.failing():
        _, machine = _find(data_dir, name)
        killed = asyncio.run(power.switch_off(machine))
        terminal.note(f"{killed} processes of {name} are dead (undo: corral machine heal {name})")
        click.echo(name)


@command.command("partition")
@options.data_dir
@click.option(
    "--direction",
    type=click.Choice(["in", "out", "both"]),
    default="both",
    show_default=True,
    help="Drop what is sent to the machine, what it sends, or both.",
)
@click.argument("name", metavar="NAME")
def partition(data_dir: Path, direction: links.Direction, name: str) -> None:
    """Cut a machine of `corral up --machines` off from the others and the server; whoever sends is told nothing."""
    with terminal.failing():
        asyncio.run(links.cut(_plugged(data_dir, name), direction))
        terminal.note(f"{name} is cut off (undo: corral machine heal {name})")
        click.echo(name)


@command.command("freeze")
@options.data_dir
@click.option("--agent-only", is_flag=True, help="The agent hangs, and all else goes on.")
@click.argument("name", metavar="NAME")
def freeze(data_dir: Path, agent_only: bool, name: str) -> None:
    """Stop all processes of a machine of `corral up --machines` where they are, as a hypervisor does."""
    with terminal.failing():
        stopped = power.freeze(_plugged(data_dir, name), agent_only=agent_only)
        terminal.note(f"{stopped} processes of {name} stand still (undo: corral machine thaw {name})")
        click.echo(name)


@command.command("thaw")
@options.data_dir
@click.argument("name", metavar="NAME")
def thaw(data_dir: Path, name: str) -> None:
    """Let a frozen machine go on."""
    with terminal.failing():
        power.thaw(_plugged(data_dir, name))
        click.echo(name)


@command.command("heal")
@options.data_dir
@click.argument("name", metavar="NAME")
def heal(data_dir: Path, name: str) -> None:
    """Undo `kill`, `partition` and `freeze`: the machine is on, connected, and its agent runs.

    After `kill` it is a machine that has just booted: its files are there, its containers are not.
    """
    with terminal.failing():
        fleet, machine = _find(data_dir, name)
        asyncio.run(_heal(fleet, machine))
        click.echo(name)


async def _heal(fleet: Fleet, machine: Machine) -> None:
    if not await links.is_laid(fleet):
        raise CorralError(
            f"cannot heal {machine.name}: the whole fleet is down", f"corral up --data-dir {fleet.config.data_dir}"
        )
    power.allow(machine)
    if links.is_plugged(machine):
        power.thaw(machine)
        await links.mend(machine)
    await agents.start(fleet, machine)

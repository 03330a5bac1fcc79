"""The `corral` command: a table of lazily imported subcommands, so that `corral --help` imports none of them."""

import importlib
import os
import sys
from typing import Final

import click

TRACEBACK: Final = "CORRAL_TRACEBACK"
"""Set to see on a terminal, too, where a defect comes from."""

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("corral.app.up", "Start a cell on this machine."),
    "down": ("corral.app.down", "Stop a cell and its containers; its state stays."),
    "run": ("corral.cli.run", "Run a program on a machine with room."),
    "ps": ("corral.cli.ps", "List what runs."),
    "logs": ("corral.cli.logs", "Print a program's output."),
    "stop": ("corral.cli.stop", "Stop programs."),
    "exec": ("corral.cli.exec", "Run a command beside a running program."),
    "why": ("corral.cli.why", "Explain why something does not run, and what would change it."),
    "plan": ("corral.cli.plan", "Show where workloads would go, without creating them."),
    "simulate": ("corral.cli.simulate", "Ask what would happen: does it fit, what if machines die."),
    "queue": ("corral.cli.queue", "Show queues: their quota, who waits, and about how long."),
    "status": ("corral.cli.status", "Show the cell: its servers, machines and load."),
    "join": ("corral.app.join", "Make this machine one of a cell's."),
    "token": ("corral.cli.token", "Make the tokens that machines join with."),
    "machine": ("corral.app.fleet.failures", "List machines, and take one out of service and back."),
    "repair": ("corral.cli.repair", "Show what is done about machines in trouble, and by which rules."),
    "image": ("corral.cli.image", "Load and list the images of a cell's machines."),
    "store": ("corral.app.store", "Back up, restore and move a cell's state."),
    "doctor": ("corral.app.doctor", "Check that this machine has what a cell needs."),
    "completion": ("corral.cli.completion", "Print a shell's completion script."),
    "version": ("corral.cli.version", "Print the versions of the client and the cell."),
}


class LazyGroup(click.Group):
    """Finds a subcommand's module when it is asked for; `--help` needs the table only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="kubectl works on the same cell: export KUBECONFIG=/var/lib/corral/kubeconfig",
)
def cli() -> None:
    """Corral: compute as a service. Hand it a program; it finds hardware and runs it."""


def main() -> None:
    """Entry point of the console script and of `python -m corral`; a defect of ours is an error in words, too."""
    try:
        cli(prog_name="corral")
    except Exception as error:
        raise SystemExit(_explain(error)) from error


def _explain(error: Exception) -> int:
    """Say where Corral failed, in full for a log; gives the exit code."""
    import traceback

    from corral.base.errors import CorralError
    from corral.cli import terminal
    from corral.cli.session import EXIT_CORRAL

    if not isinstance(error, CorralError):
        if os.environ.get(TRACEBACK) or not sys.stderr.isatty():
            traceback.print_exception(error)
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = "".join(traceback.format_exception_only(error)).strip()
        said = f"a defect of Corral: {words} ({place.filename}:{place.lineno})"
        error = CorralError(said, f"run it again with {TRACEBACK}=1, and report what it says")
    terminal.error(error)
    return EXIT_CORRAL


if __name__ == "__main__":
    main()

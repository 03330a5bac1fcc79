"""Writes the manual page of `corral` from the commands themselves: `tools/make_man.py docs/man/corral.1`."""

import sys
from pathlib import Path

import click

from corral import __version__
from corral.app.main import COMMANDS, cli


def escape(text: str) -> str:
    """Text as roff takes it literally."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace("\n.", "\n\\&.")


def section(name: str, command: click.Command, parent: click.Context) -> list[str]:
    """A command with its synopsis, description and options; the subcommands of a group follow it."""
    context = click.Context(command, info_name=name, parent=parent)
    pieces = " ".join(command.collect_usage_pieces(context))
    lines = [f'.SS "corral {escape(name)} {escape(pieces)}"']
    description = (command.help or command.short_help or "").replace("\b", "")
    lines += [escape(" ".join(part.split())) + "\n.PP" for part in description.split("\n\n")]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            lines += [".TP", f".B {escape(record[0])}", escape(" ".join(record[1].split()))]
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            lines += section(f"{name} {child}", found, parent)
    return lines


def page() -> str:
    """The whole page."""
    root = click.Context(cli, info_name="corral", **cli.context_settings)
    lines = [
        f'.TH CORRAL 1 "" "Corral {__version__}" "User Commands"',
        ".SH NAME",
        "corral \\- compute as a service: hand it a program, it finds hardware and runs it",
        ".SH SYNOPSIS",
        ".B corral\n.I COMMAND\n[OPTIONS] [ARGS]...",
        ".SH COMMANDS",
    ]
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        lines += section(name, command, root)
    lines += [
        ".SH ENVIRONMENT",
        ".TP\n.B CORRAL_DATA_DIR\nData directory of the cell on this machine (/var/lib/corral).",
        ".TP\n.B CORRAL_TRACEBACK\nSet to see on a terminal, too, where a defect of Corral comes from.",
        ".TP\n.B KUBECONFIG\nKubeconfig of the cell to talk to.",
        ".TP\n.B NO_COLOR\nNo colour, even on a terminal.",
        ".SH EXIT STATUS",
        "That of the program for run and exec; 125 for an error of Corral's own, 126 for a program that cannot be "
        "executed, 127 for one that does not exist.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page())

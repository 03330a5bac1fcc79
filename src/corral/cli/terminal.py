"""What a person sees: progress and errors on stderr, data on stdout, colour only where a terminal wants it."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from corral.base.errors import CorralError


def colour(stream: Any) -> bool:
    """Whether `stream` gets colour: a terminal, and NO_COLOR is unset (no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """A line of progress."""
    click.echo(click.style(f"corral: {text}", dim=True) if colour(sys.stderr) else f"corral: {text}", err=True)


def error(failure: CorralError) -> None:
    """An error and what would mend it."""
    head = click.style("error:", fg="red", bold=True) if colour(sys.stderr) else "error:"
    click.echo(f"{head} {failure.message}", err=True)
    if failure.remedy:
        click.echo(f"  remedy: {failure.remedy}", err=True)


@contextmanager
def failing(code: int = 1) -> Iterator[None]:
    """Say an error of ours in words and end with `code`."""
    try:
        yield
    except CorralError as failure:
        error(failure)
        raise SystemExit(code) from failure


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, gap: int = 3) -> str:
    """A table as kubectl prints it: upper-case header, columns padded, no rules."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    lines = [
        "".join(cell.ljust(width + gap) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    ]
    return "\n".join(lines)


def emit(data: Any, form: str) -> None:
    """Print objects as `json`, `yaml` or `name` (`kind/name` a line)."""
    if form == "json":
        click.echo(json.dumps(data, indent=4))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=True, default_flow_style=False), nl=False)
    else:
        for item in data.get("items", [data]):
            click.echo(f"{item['kind'].lower()}/{item['metadata']['name']}")


def some(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def duration(seconds: float) -> str:
    """A span for people: `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 4 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def files(count: int) -> str:
    """A number of files for people."""
    return "1 file" if count == 1 else f"{count} files"


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def write_all(target: int, data: bytes) -> None:
    """Write all of `data` to a descriptor; blocks while its reader is slow."""
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]

"""A progress bar on stderr, for people only, and only when something takes a while."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_WORTH_IT = 0.5
"""Seconds; what is quicker shows no bar."""


@contextmanager
def bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A function that is told how much of how much is done; it shows nothing unless stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    shown = _progress()
    task = shown.add_task(text, total=None)
    # Whoever works says nothing before the first step is done, which may be the longest.
    begin = threading.Timer(_WORTH_IT, shown.start)
    begin.daemon = True
    begin.start()
    try:
        yield lambda done, total: shown.update(task, completed=done, total=total)
    finally:
        begin.cancel()
        begin.join()
        shown.stop()


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("left"), TimeRemainingColumn(compact=True)),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)

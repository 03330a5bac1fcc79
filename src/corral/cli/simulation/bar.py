"""A progress bar on stderr, for people only, and only when something takes a while."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_WORTH_IT = 0.5
"""Seconds; what is quicker shows no bar."""


class _Bar:
    def __init__(self, text: str) -> None:
        self._text = text
        self._began = time.monotonic()
        self.shown: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if self.shown is None:
            if time.monotonic() - self._began < _WORTH_IT:
                return
            self.shown = _progress()
            self.shown.start()
            self.shown.add_task(self._text)
        self.shown.update(self.shown.task_ids[0], completed=done, total=total)


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def bar(text: str) -> Iterator["_Bar"]:
    """A function that is told (done, total); it shows nothing unless stderr is a terminal."""
    made = _Bar(text) if sys.stderr.isatty() else _Silent(text)
    try:
        yield made
    finally:
        if made.shown is not None:
            made.shown.stop()


class _Silent(_Bar):
    def __call__(self, done: int, total: int) -> None:
        pass

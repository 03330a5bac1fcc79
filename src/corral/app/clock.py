"""The clock of a process of ours: the machine's own, or, for tests of failures, one that is wrong on purpose."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from corral.base.clock import Clock, SystemClock

FILE = "clock-offset"
"""In the data directory: seconds by which the clock is wrong, if there is such a file."""
_VARIABLE = "CORRAL_CLOCK_OFFSETS"


class WrongClock(SystemClock):
    """The machine's clock, stepped by what `file` says at the moment. Monotonic time goes on, as in a real step."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        try:
            return super().now() + timedelta(seconds=float(self._file.read_text()))
        except (FileNotFoundError, ValueError):  # ValueError: it is being written
            return super().now()


def process_clock(data_dir: Path) -> Clock:
    """The clock of the process that owns `data_dir`; wrong ones are only for whoever asks by the environment."""
    return WrongClock(data_dir / FILE) if os.environ.get(_VARIABLE) else SystemClock()

"""The kernel's own log, read from /dev/kmsg without waiting (Documentation/ABI/testing/dev-kmsg).

A record is `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`. Programs may write there too, but never with facility 0: only
what the kernel itself says is believed, so no container can make its machine look broken.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

KMSG: Final = Path("/dev/kmsg")
_RECORD_BYTES: Final = 8192
"""The kernel gives a record whole, or refuses a smaller buffer."""
_MOST_RECORDS: Final = 5000
"""So many a reading; what is beyond is read next time."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message: `seconds` since boot, on the kernel's own clock."""

    seconds: float
    text: str


def parse(raw: bytes) -> Record | None:
    """A record as the kernel gives it; None if a program wrote it, or it is not one."""
    head, mark, rest = raw.partition(b";")
    fields = head.split(b",")
    if not mark or len(fields) < 3 or not all(field.isdigit() for field in fields[:3]):
        return None
    if int(fields[0]) >> 3:
        return None
    return Record(int(fields[2]) / 1e6, rest.partition(b"\n")[0].decode(errors="replace"))


class KernelLog:
    """Everything that the kernel still knows, then what it adds."""

    def __init__(self, path: Path = KMSG, uptime: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._uptime = uptime
        self._descriptor = -1

    def read(self, pick: Callable[[str], T | None]) -> tuple[tuple[float, T], ...]:
        """What `pick` makes of messages since the last call, each with its age in seconds.

        Raises:
            OSError: this process may not read the log, or there is none.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        now = self._uptime()
        found = ((record.seconds, pick(record.text)) for record in self._records())
        return tuple((max(0.0, now - seconds), picked) for seconds, picked in found if picked is not None)

    def _records(self) -> Iterator[Record]:
        for _ in range(_MOST_RECORDS):
            try:
                raw = os.read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:  # some were overwritten before we came to them
                continue
            if not raw:
                return
            record = parse(raw)
            if record is not None:
                yield record

    def close(self) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

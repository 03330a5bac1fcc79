"""Learning of ends without polling: inotify on the directory into which conmon renames its exit files."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from corral.agent.runtime import syscalls


def read_exit(exits: Path, container_id: str) -> tuple[int, datetime] | None:
    """(exit code, when) of a container that has ended, else None."""
    path = exits / container_id
    try:
        code = int(path.read_text())
        return code, datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (FileNotFoundError, ValueError):
        return None


class ExitWatch:
    """Calls `ended(id)` for each exit file that appears; `ended("")` when events were lost, to look at all of them."""

    def __init__(self, exits: Path, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._descriptor = syscalls.inotify(str(exits), syscalls.IN_MOVED_TO | syscalls.IN_CLOSE_WRITE)
        self._loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        for name in dict.fromkeys(syscalls.inotify_names(data)):
            self._ended(name)

    def close(self) -> None:
        """Stop watching. Safe to repeat."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

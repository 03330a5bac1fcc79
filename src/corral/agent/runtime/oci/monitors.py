"""Containers' monitors: finding them again by pid files, checked against what the process really is; noticing their
ends; keeping them out of the agent's control groups."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from corral.agent.runtime.oci.cgroups import Cgroups

log = logging.getLogger(__name__)


def text_of(path: str) -> str:
    """The text of a file; empty when there is none."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def read_pid(path: Path) -> int:
    """The process id in a pid file; 0 when there is none."""
    text = text_of(str(path)).strip()
    return int(text) if text.isdigit() else 0


def is_monitor_of(pid: int, container_id: str) -> bool:
    """Whether the process is the conmon of the container (and not another one that got its number)."""
    words = text_of(f"/proc/{pid}/cmdline").split("\0")
    return container_id in words and any(word.endswith("conmon") for word in words)


def kill_monitor(pid: int, container_id: str) -> None:
    """Kill a conmon, if it still is the container's."""
    if pid and is_monitor_of(pid, container_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Monitors:
    """The monitors of the containers that run, watched through pidfds."""

    def __init__(self, cgroups: Cgroups) -> None:
        self._cgroups = cgroups
        self._watched: dict[str, int] = {}
        self._adoptions: set[asyncio.Task[None]] = set()

    def watch(self, container_id: str, pid_file: Path, ended: Callable[[], None]) -> bool:
        """Call `ended` once when the container's conmon has ended; False when it is gone already."""
        pid = read_pid(pid_file)
        try:
            descriptor = os.pidfd_open(pid) if pid else -1
        except ProcessLookupError:
            descriptor = -1
        if descriptor >= 0 and not is_monitor_of(pid, container_id):
            os.close(descriptor)
            descriptor = -1
        if descriptor < 0:
            return False

        def on_end() -> None:
            self.forget(container_id)
            ended()

        self._watched[container_id] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, on_end)
        self._adopt(pid)
        return True

    def forget(self, container_id: str) -> None:
        """Watch it no longer. Safe to repeat."""
        descriptor = self._watched.pop(container_id, -1)
        if descriptor >= 0:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def close(self) -> None:
        """Watch none any longer; they go on."""
        await asyncio.gather(*self._adoptions, return_exceptions=True)
        for container_id in list(self._watched):
            self.forget(container_id)

    def _adopt(self, pid: int) -> None:
        """Move a conmon out of the agent's groups, behind the start's back: each move takes milliseconds."""

        def adopt() -> None:
            with suppress(ProcessLookupError):
                self._cgroups.adopt_monitor(pid)

        task = asyncio.ensure_future(asyncio.to_thread(adopt))
        self._adoptions.add(task)
        task.add_done_callback(self._adopted)

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._adoptions.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("cannot move a monitor out of the agent's control group", exc_info=task.exception())

"""Finding a container's conmon again: pid files, checked against what the process really is."""

import os
import signal
from contextlib import suppress
from pathlib import Path


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

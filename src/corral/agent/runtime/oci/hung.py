"""Calls of the OCI runtime that never end: what keeps a runtime from answering when there is no daemon to restart."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from corral.agent.runtime.oci.engine import Engine
from corral.agent.runtime.oci.monitors import text_of

HUNG_SECONDS = 30.0
"""A call that makes, starts, asks or removes takes milliseconds; on a machine that is overrun, seconds."""


def hung_calls(engine: Engine, seconds: float) -> list[int]:
    """Processes of `engine` with this cell's state that are older than `seconds`; an exec may last and is none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = text_of(f"{entry}/cmdline").split("\0")
            # A script stands behind its interpreter.
            is_call = engine.path in words[:2] and str(engine.root) in words and "exec" not in words
            if is_call and _age(entry) > seconds:
                found.append(int(entry.name))
    return found


def _age(process: Path) -> float:
    """Seconds since the process began (proc(5): stat, field 22, after a name that may have spaces); 0: it is gone."""
    fields = text_of(f"{process}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def end(pids: list[int]) -> None:
    """SIGKILL."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

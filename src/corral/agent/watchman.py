"""A program of its own that kills this machine's pods when its agent cannot: it is dead, or it is frozen.

An agent promises that what may run elsewhere is dead after a while of silence; containers outlive agents, so somebody
who is not the agent has to keep the promise. Run as `python -I watchman.py FILE` (the standard library only: a few
megabytes). FILE, which the agent replaces, says

    {"groups": [directories that hold pod-UID groups], "spare": [UIDs]}

and its time of modification says until when all is well, on CLOCK_BOOTTIME; zero is for ever. That time changes at
once or not at all, and on a full disk too. FILE.pid names the newest watchman; an older one ends. It ends, too, when
FILE is gone, or when it has killed and its agent is dead.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.25
_DIE_SECONDS = 0.02


def now() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def processes(groups: list[str], spare: set[str]) -> set[int]:
    """Whatever runs in the pods of `groups`, except in those of `spare`."""
    found: set[int] = set()
    for group in groups:
        for pod in Path(group).glob("pod-*"):
            if pod.name.removeprefix("pod-") in spare:
                continue
            for path in [pod / "cgroup.procs", *pod.rglob("*/cgroup.procs")]:
                try:
                    found.update(int(pid) for pid in path.read_text().split())
                except OSError:  # the group went meanwhile
                    continue
    return found


def kill_all(said: dict[str, Any]) -> None:
    """SIGKILL until nothing is left, also of what forks faster than it is killed."""
    killed: set[int] = set()
    ends = now() + 10.0
    while (left := processes(said["groups"], set(said["spare"]))) and now() < ends:
        for pid in left - killed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        killed |= left
        time.sleep(_DIE_SECONDS)


def read(file: Path) -> tuple[dict[str, Any], float | None]:
    """What FILE says, and until when all is well (None: for ever).

    Raises:
        OSError, ValueError: there is no such file, or it cannot be understood.
    """
    with file.open("rb") as opened:
        until = os.fstat(opened.fileno()).st_mtime
        return json.loads(opened.read()), until or None


def watch(file: Path, agent: int) -> None:
    """Look again and again until there is nothing to watch any more."""
    mine, me, named = file.with_name(file.name + ".pid"), str(os.getpid()), False
    while True:
        named = named or name(mine, me)
        try:
            said, until = read(file)
            if named and mine.read_text() != me:
                return
        except (OSError, ValueError):
            return
        left = None if until is None else until - now()
        if left is not None and left <= 0:
            kill_all(said)
            if os.getppid() != agent:
                return
        elif left is None and os.getppid() != agent:
            return
        # A machine that slept finds out at the next look, not when its timer ends.
        time.sleep(_LOOK_SECONDS if left is None or left <= 0 else min(_LOOK_SECONDS, left))


def name(file: Path, pid: str) -> bool:
    """Say in `file` who is the newest; False if the disk is full: two that watch are better than none."""
    try:
        file.write_text(pid)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    watch(Path(sys.argv[1]), os.getppid())

"""The agent's side of its watchman: it says until when all is well, and sees to it that there is one.

The file outlives the agent. So it also says what the next one needs to know while it has heard of no server: for how
long all is well from a moment on at which the only server surely moved nothing.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from corral.agent import watchman

logger = logging.getLogger(__name__)


def forget(file: Path) -> None:
    """Remove the file, so that its watchman ends."""
    file.unlink(missing_ok=True)
    file.with_name(file.name + ".pid").unlink(missing_ok=True)


class Guard:
    """Keeps `file` fresh and a watchman beside it.

    Args:
        groups: directories of control groups that hold the pods' own, `pod-UID`.
        spare: uids of pods that are never killed; None while they are not known: then what is in the file stands.
    """

    def __init__(self, file: Path, groups: Sequence[str], spare: Callable[[], Collection[str] | None]) -> None:
        self._file = file
        self._groups = list(groups)
        self._spare = spare
        self._said: dict[str, Any] | None = None
        self._until = 0
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, seconds: float | None, anew: float | None = None) -> None:
        """From now on all is well for `seconds`, or for ever; that is said even where nothing is promised yet, because
        a full disk takes no new file. `anew` is what `excuse` goes by.

        Raises:
            OSError: that cannot be said; what was said before holds.
        """
        until = 0 if seconds is None else max(1, round((watchman.now() + seconds) * 1e9))
        spared = self._spare()
        stands = self._stands()[0].get("spare", []) if spared is None else sorted(spared)
        says = {"groups": self._groups, "spare": stands, "anew": anew}
        try:
            if says != self._said or not self._file.exists():
                self._write(says, until)
        except OSError:
            # A disk may be full. To spare fewer than one might is safe, so what stands there still does.
            if self._said is None:
                raise
        self._set(until)
        if seconds is not None:
            self._see_to_watchman()

    def excuse(self, ago: float) -> None:
        """So many seconds ago the only server moved nothing: what an earlier agent promised counts from there.

        Raises:
            OSError: that cannot be said; what was said before holds.
        """
        said, until = self._stands()
        anew = said.get("anew")
        if anew is not None and until is not None and until > watchman.now():
            self._set(round((watchman.now() - ago + anew) * 1e9))
            self._see_to_watchman()

    def _stands(self) -> tuple[dict[str, Any], float | None]:
        try:
            return watchman.read(self._file)
        except (OSError, ValueError):
            return {}, None

    def _write(self, says: dict[str, Any], until: int) -> None:
        self._file.parent.mkdir(mode=0o755, exist_ok=True)
        fresh = self._file.with_name(self._file.name + ".new")
        fresh.write_text(json.dumps(says))
        os.utime(fresh, ns=(until, until))
        fresh.replace(self._file)
        self._said, self._until = says, until

    def _set(self, until: int) -> None:
        if until != self._until:
            os.utime(self._file, ns=(until, until))
            self._until = until

    def _see_to_watchman(self) -> None:
        if self._groups and (self._process is None or self._process.poll() is not None):
            self._start()

    def _start(self) -> None:
        command = [sys.executable, "-I", watchman.__file__, str(self._file)]
        self._process = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", "")},
        )
        logger.info("watchman %d guards the pods of this machine", self._process.pid)

"""The agent's side of its watchman: it says until when all is well, and sees to it that there is one."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

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
        spare: uids of pods that are never killed.
    """

    def __init__(self, file: Path, groups: Sequence[str], spare: Callable[[], Collection[str]]) -> None:
        self._file = file
        self._groups = list(groups)
        self._spare = spare
        self._spared: list[str] | None = None
        self._until = 0
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, seconds: float | None) -> None:
        """From now on all is well for `seconds`, or for ever; that is said even where nothing is promised yet, because
        a full disk takes no new file.

        Raises:
            OSError: that cannot be said; what was said before holds.
        """
        until = 0 if seconds is None else max(1, round((watchman.now() + seconds) * 1e9))
        spared = sorted(self._spare())
        try:
            if spared != self._spared or not self._file.exists():
                self._write(spared, until)
        except OSError:
            # A disk may be full. To spare fewer than one might is safe, so what stands there still does.
            if self._spared is None:
                raise
        if until != self._until:
            os.utime(self._file, ns=(until, until))
            self._until = until
        if seconds is not None and self._groups and (self._process is None or self._process.poll() is not None):
            self._start()

    def _write(self, spared: list[str], until: int) -> None:
        self._file.parent.mkdir(mode=0o755, exist_ok=True)
        fresh = self._file.with_name(self._file.name + ".new")
        fresh.write_text(json.dumps({"groups": self._groups, "spare": spared}))
        os.utime(fresh, ns=(until, until))
        fresh.replace(self._file)
        self._spared, self._until = spared, until

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

"""Rotating container logs: at 10 MiB, five files kept, older ones compressed (the kubelet's defaults)."""

import asyncio
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from corral.agent.logs import files
from corral.agent.runtime.api import Runtime
from corral.base.clock import Clock
from corral.base.errors import CorralError

logger = logging.getLogger(__name__)

MAX_BYTES = 10 << 20
MAX_FILES = 5
PERIOD_SECONDS = 10.0


class LogRotator:
    """Looks at the logs of running containers every ten seconds (one stat each)."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        running: Callable[[], Iterable[tuple[str, Path]]],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._running = running
        self._max_bytes = max_bytes

    async def run(self) -> None:
        while True:
            await self._clock.sleep(PERIOD_SECONDS)
            for container_id, path in list(self._running()):
                if _size(path) < self._max_bytes:
                    continue
                try:
                    await self.rotate(container_id, path)
                except (CorralError, OSError) as error:
                    logger.warning("cannot rotate %s, will retry: %s", path, error)

    async def rotate(self, container_id: str, path: Path) -> None:
        """Move the current file aside, have the runtime begin another one, then tidy up the older ones."""
        moved = path.with_name(f"{path.name}.{self._clock.now():%Y%m%d-%H%M%S.%f}")
        path.rename(moved)
        try:
            await self._runtime.reopen_log(container_id)
        except (CorralError, OSError):
            # Nobody may write to a file that has no name any more: put it back.
            moved.rename(path)
            raise
        await asyncio.to_thread(_tidy, path, moved)


def _tidy(path: Path, newest: Path) -> None:
    """Compress all rotated files but the newest, which followers may still read; keep the newest few."""
    rotated = [found for found in files(path) if found != path]
    for old in rotated[: max(0, len(rotated) - (MAX_FILES - 1))]:
        old.unlink()
    for found in rotated[max(0, len(rotated) - (MAX_FILES - 1)) :]:
        if found != newest and found.suffix != ".gz":
            _compress(found)


def _compress(path: Path) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with path.open("rb") as plain, gzip.open(temporary, "wb") as packed:
        shutil.copyfileobj(plain, packed)
    os.replace(temporary, path.with_name(path.name + ".gz"))
    path.unlink()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

"""Forgets uploads that nothing refers to any more.

A source is in use while any stored object names its digest: a Job whose pods are still to come needs it as much as a
pod that runs. One that nobody names is kept for a while all the same, because a client looks whether the cell has it
before it creates the object that names it; looking makes it young again (`Sources.handle`).
"""

import asyncio
import logging
import re
from pathlib import Path
from typing import Final

from corral.base.clock import Clock
from corral.store.protocol import Store

log = logging.getLogger(__name__)

KEEP_SECONDS: Final = 24 * 3600.0
_EVERY_SECONDS: Final = 3600.0
_CARRIERS: Final = (
    "/core/pods/",
    "/core/replicationcontrollers/",
    "/apps/",
    "/batch/",
)
"""Where pods and pod templates are stored."""
_DIGEST: Final = re.compile(rb'"([0-9a-f]{64})"')


class SourceCollector:
    """Looks every hour until cancelled. `directory` is that of `Sources`."""

    def __init__(self, directory: Path, store: Store, clock: Clock, *, keep: float = KEEP_SECONDS) -> None:
        self._directory = directory
        self._store = store
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Collect for ever; a disk that fails is a warning, and the next hour another try."""
        while True:
            await self._clock.sleep(_EVERY_SECONDS)
            try:
                removed = await asyncio.to_thread(self.collect, self.used())
            except OSError as error:
                log.warning("cannot remove old sources: %s", error)
            else:
                if removed:
                    log.info("removed %d sources that nothing refers to", removed)

    def used(self) -> frozenset[str]:
        """Every digest that a stored object names."""
        found: set[bytes] = set()
        for prefix in _CARRIERS:
            entries, _ = self._store.current(prefix)
            for entry in entries:
                found.update(_DIGEST.findall(entry.value))
        return frozenset(digest.decode() for digest in found)

    def collect(self, used: frozenset[str]) -> int:
        """Remove what is neither used nor young; returns how many files went."""
        oldest = self._clock.now().timestamp() - self._keep
        removed = 0
        for path in self._directory.glob("[!.]*/*"):
            if path.name not in used and path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

"""A part of the store, mirrored: told of each change, and never behind an acknowledged write once refreshed.

Whoever is about to answer from the mirror calls `refresh()` first. It asks the store for its current listing, which a
store keeps ready until something under the prefix is written, and takes the difference to the one it saw last. So a
role written a moment ago counts for the very next request, and a request that finds nothing changed pays two lookups.

For a prefix that is written often, `start()` has a task follow the store's watch; then `refresh()` takes from it what
has not been handed out yet, and is needed only before a "no".
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from corral.store.protocol import Change, Compacted, Entry, Store, Watch

log = logging.getLogger(__name__)


class Mirror:
    """Calls `apply(key, entry)` for each put and `apply(key, None)` for each delete under `prefix`; a key's history
    never goes back, and versions that were replaced meanwhile may be skipped."""

    def __init__(self, store: Store, prefix: str, apply: Callable[[str, Entry | None], None]) -> None:
        self._store = store
        self._prefix = prefix
        self._apply = apply
        self._known: dict[str, int] = {}
        self._view: Sequence[Entry] = ()
        self._revision = -1
        self._watch: Watch | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything once and follow from there."""
        self.refresh()
        self._task = asyncio.create_task(self._follow(), name=f"mirror {self._prefix}")

    async def stop(self) -> None:
        """End the following; `refresh()` goes on working."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def refresh(self) -> None:
        """Make the mirror show every acknowledged write."""
        latest = self._store.revision
        if self._revision >= latest:
            return
        if self._watch is not None:
            try:
                for change in self._watch.take():
                    self._take(change)
            except Compacted:
                pass  # the follower will notice, too
            else:
                return
        entries, revision = self._store.current(self._prefix)
        if entries is not self._view:
            self._take_all(entries)
        # A follower needs no difference; keeping the listing would keep every replaced value alive.
        self._view = entries if self._watch is None else ()
        self._revision = revision

    def _take_all(self, entries: Sequence[Entry]) -> None:
        gone = set(self._known)
        for entry in entries:
            gone.discard(entry.key)
            if self._known.get(entry.key) != entry.revision:
                self._known[entry.key] = entry.revision
                self._apply(entry.key, entry)
        for key in gone:
            del self._known[key]
            self._apply(key, None)

    def _take(self, change: Change) -> None:
        entry = change.entry
        if entry.revision <= self._revision:
            return
        self._revision = entry.revision
        if change.type == "put":
            self._known[entry.key] = entry.revision
            self._apply(entry.key, entry)
        elif self._known.pop(entry.key, None) is not None:
            self._apply(entry.key, None)

    async def _follow(self) -> None:
        while True:
            self._watch = self._store.watch(self._prefix, after=self._revision)
            try:
                async for batch in self._watch:
                    for change in batch:
                        self._take(change)
            except Compacted:
                log.info("fell behind under %s, reading everything again", self._prefix)
            else:
                return
            finally:
                self._watch.close()
                self._watch = None
            self.refresh()

"""What the stores of one process share: reads, watches, and the step from a write to a change."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from corral.base.clock import Clock
from corral.base.errors import CorralError
from corral.store.compaction import CompactionClock, CompactionPolicy
from corral.store.index import Index
from corral.store.protocol import Change, Conflict, Entry, Page, Topic, Watch
from corral.store.watchers import Watchers


class Write(msgspec.Struct, frozen=True):
    """A write that was asked for; `revision` is what it must find (0: the key must not exist)."""

    type: Literal["put", "delete"]
    key: str
    value: bytes
    revision: int
    memo: Any = None


def decide(write: Write, current: Entry | None, revision: int) -> Change | Conflict:
    """What `write` does at `revision` to a key that holds `current`: the compare-and-swap, purely."""
    if (current.revision if current is not None else 0) != write.revision:
        return Conflict(current)
    if current is None:
        return Change("put", Entry(write.key, write.value, revision, revision, write.memo), None)
    value = current.value if write.type == "delete" else write.value
    return Change(write.type, Entry(write.key, value, revision, current.created, write.memo), current)


def creation(key: str, value: bytes, memo: Any = None) -> Write:
    """A write of a key that must not exist."""
    if not key.startswith("/"):
        raise CorralError(f"cannot write the key {key!r}: keys start with '/'")
    return Write("put", key, value, 0, memo)


def replacement(type: Literal["put", "delete"], key: str, value: bytes, revision: int, memo: Any = None) -> Write:
    """A write of a key whose current value must be that of `revision`."""
    # Zero would mean "must not exist"; no value has revision -1, so that such a write always loses.
    return Write(type, key, value, revision if revision > 0 else -1, memo)


class State:
    """A store but for `_write`, `compact` and `close`. Reads are served from memory, on the event loop's thread."""

    def __init__(self, clock: Clock, policy: CompactionPolicy) -> None:
        self._clock = clock
        self._index = Index()
        self._watchers = Watchers()
        self._compaction = CompactionClock(policy)
        self.refused = -math.inf

    @property
    def revision(self) -> int:
        return self._index.revision

    @property
    def compacted(self) -> int:
        return self._index.compacted

    async def create(self, key: str, value: bytes, memo: Any = None) -> Entry | Conflict:
        return await self._write(creation(key, value, memo))

    async def update(self, key: str, value: bytes, revision: int, memo: Any = None) -> Entry | Conflict:
        return await self._write(replacement("put", key, value, revision, memo))

    async def delete(self, key: str, revision: int) -> Entry | Conflict:
        return await self._write(replacement("delete", key, b"", revision))

    async def _write(self, write: Write) -> Entry | Conflict:
        raise NotImplementedError

    def get(self, key: str) -> Entry | None:
        return self._index.get(key)

    async def list(
        self, prefix: str, *, revision: int = 0, limit: int = 0, after: str = "", only: Topic | None = None
    ) -> Page:
        return self._index.page(prefix, revision, limit, after, only)

    def current(self, prefix: str, only: Topic | None = None) -> tuple[Sequence[Entry], int]:
        return self._index.current(prefix, only), self._index.revision

    def watch(self, prefix: str, *, after: int, buffer: int = 10_000, only: Topic | None = None) -> Watch:
        """Changes above `after` under `prefix`, of the topic `only`.

        Raises:
            Compacted: `after` is older than what is kept.
            Future: `after` has not happened yet.
        """
        self._index.check(after)
        backlog = self._index.history(prefix, after, only)
        return self._watchers.open(prefix, after, backlog, buffer, self._latest, only)

    def _latest(self) -> int:
        return self._index.revision

    def _apply(self, changes: Sequence[Change]) -> int:
        """Make durable changes visible; returns the revision that history may now be compacted to."""
        self._index.apply(changes)
        self._watchers.publish(changes)
        now = self._clock.monotonic()
        self._compaction.note(self._index.revision, now)
        return self._compaction.target(self._index.revision, self._index.compacted, now)

"""A store that forgets everything when it ends: for tests, simulations and dry runs."""

from corral.base.clock import Clock, SystemClock
from corral.store.compaction import CompactionPolicy
from corral.store.protocol import Conflict, Entry
from corral.store.state import State, Write, decide


class MemoryStore(State):
    """`corral.store.protocol.Store` without a disk."""

    def __init__(self, *, clock: Clock | None = None, policy: CompactionPolicy | None = None) -> None:
        super().__init__(clock or SystemClock(), policy or CompactionPolicy())

    async def _write(self, write: Write) -> Entry | Conflict:
        outcome = decide(write, self._index.get(write.key), self._index.revision + 1)
        if isinstance(outcome, Conflict):
            return outcome
        self._index.forget(self._apply([outcome]))
        return outcome.entry

    async def compact(self, revision: int) -> None:
        self._index.check(max(revision, self._index.compacted))
        self._index.forget(revision)

    async def close(self) -> None:
        self._watchers.close()

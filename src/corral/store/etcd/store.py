"""A store on etcd, which several servers may share.

Each server mirrors all of it in memory by one watch and serves reads from there. A write is a transaction that compares
the key's revision; it is acknowledged when etcd has it on a majority of disks *and* the mirror shows it, so that a
server reads what it wrote. What other servers write arrives within milliseconds; `refresh` waits until the mirror shows
everything that was acknowledged anywhere before the call.

Our revisions are etcd's less one, because a fresh etcd is at 1. Writes to keys that are not ours (etcd need not be ours
alone) take revisions too: they stand in the history as changes of no key.

The watch resumes after the last revision *seen*. If that is compacted meanwhile, the mirror is filled anew and whoever
watches is told to list again.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
import math
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from corral.base.backoff import Backoff
from corral.base.clock import Clock, SystemClock
from corral.base.errors import CorralError
from corral.store.compaction import CompactionPolicy
from corral.store.etcd.address import EtcdAddress
from corral.store.etcd.client import EtcdClient, EtcdCompacted, Event, KeyValue
from corral.store.fence import FENCE, Fence, Fenced
from corral.store.protocol import Change, Conflict, Entry, Unavailable
from corral.store.state import State, Write

_log = logging.getLogger(__name__)

_OFFSET = 1
# A mirror that is so far behind what etcd has acknowledged has a dead watch, whatever its connection seems to be.
_LAG_SECONDS = 3.0
_PATIENCE_SECONDS = 10.0
_BACKOFF = Backoff(initial=0.02, maximum=1.0)

_Waiter: TypeAlias = "asyncio.Future[None]"


class EtcdStore(State):
    """`corral.store.protocol.Store` on an etcd."""

    def __init__(self, client: EtcdClient, address: EtcdAddress, clock: Clock, policy: CompactionPolicy) -> None:
        super().__init__(clock, policy)
        self._client = client
        self._address = address
        self._waiters: list[tuple[int, int, _Waiter]] = []
        self._numbers = itertools.count()
        self._turns: dict[str, asyncio.Lock] = {}
        self._watching: asyncio.Task[None] | None = None
        self._compacting: asyncio.Task[None] | None = None
        self._restarted = -math.inf
        self._closed = False

    @classmethod
    async def open(
        cls, address: EtcdAddress, *, clock: Clock | None = None, policy: CompactionPolicy | None = None
    ) -> "EtcdStore":
        """Mirror the etcd at `address`.

        Raises:
            CorralError: it cannot be reached or read.
        """
        client = EtcdClient(address)
        await client.open()
        store = cls(client, address, clock or SystemClock(), policy or CompactionPolicy())
        try:
            latest = await store._fill()
            store._watching = asyncio.create_task(store._mirror(), name="etcd watch")
            client.moved = store._watch_anew
            await store._reach(latest - _OFFSET)
        except BaseException:
            await store.close()
            raise
        return store

    async def compact(self, revision: int) -> None:
        self._check_open()
        self._index.check(max(revision, self.compacted))
        if revision > self.compacted:
            await self._client.compact(revision + _OFFSET)
            self._index.forget(revision)

    async def refresh(self) -> None:
        """Return when the mirror shows every write that any server acknowledged before this call.

        Raises:
            Unavailable: etcd has no majority.
        """
        await self._reach(await self._client.latest() - _OFFSET)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in (self._watching, self._compacting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(CorralError(f"cannot write to {self._address}: the store is closed"))
        self._watchers.close()
        await self._client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise CorralError(f"cannot write to the store {self._address}: it is closed")

    async def _write(self, write: Write) -> Entry | Conflict:
        self._check_open()
        if write.revision < 0:
            return Conflict(self._index.get(write.key))
        value = None if write.type == "delete" else write.value
        found = write.revision + _OFFSET if write.revision else 0
        fence = FENCE.get()
        also = (fence.key, fence.revision + _OFFSET) if fence is not None else None
        async with self._turn(write.key):
            written, latest = await self._client.swap(write.key, value, found, also=also)
        revision = latest - _OFFSET
        await self._reach(revision)
        if not written:
            self._check(fence)
            return Conflict(self._index.get(write.key))
        return self._entry(write, revision)

    def _check(self, fence: Fence | None) -> None:
        held = self._index.get(fence.key) if fence is not None else None
        if fence is not None and (held is None or held.revision != fence.revision):
            raise Fenced("cannot write: another server leads by now", "nothing to do: it does this work")

    @contextlib.asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        """Writes of this process to one key reach etcd in the order in which they were asked for."""
        lock = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._turns.get(key) is lock:
                del self._turns[key]

    def _entry(self, write: Write, revision: int) -> Entry:
        """The entry that this write made, also if others have been made since."""
        if revision > self.compacted:
            return self._index.since(revision - 1)[0].entry
        # The mirror was filled anew meanwhile; it still is what this write made.
        current = self._index.get(write.key)
        return current if current is not None else Entry(write.key, write.value, revision, revision)

    # The mirror

    async def _fill(self) -> int:
        """Begin with what etcd had at its last compaction; gives etcd's latest revision."""
        base = 1
        while True:
            try:
                found, latest = await self._client.everything(base)
            except EtcdCompacted:
                base = await self._compacted_at()
                continue
            self._restore(found, base)
            return latest

    async def _compacted_at(self) -> int:
        """etcd's latest compaction: a range that is too old only says that it is, a watch says from where on."""
        try:
            async with self._client.watch(1) as batches:
                async for _ in batches:
                    pass
        except EtcdCompacted as error:
            return error.revision
        raise Unavailable(f"cannot watch {self._address}: the answer ended", "see etcd's log")

    def _restore(self, found: Sequence[KeyValue], revision: int) -> None:
        entries = {
            kv.key: Entry(kv.key, kv.value, kv.modified - _OFFSET, kv.created - _OFFSET)
            for kv in found
            if kv.key.startswith("/")
        }
        self._index.restore(entries, [], revision - _OFFSET, revision - _OFFSET)

    async def _mirror(self) -> None:
        """Follow etcd until cancelled."""
        attempt = 0
        while True:
            at = self._client.at
            try:
                async with self._client.watch(self.revision + _OFFSET + 1) as batches:
                    async for events in batches:
                        attempt = 0
                        self._take(events)
                _log.info("etcd ended the watch of %s; it is resumed after revision %d", self._address, self.revision)
            except EtcdCompacted:
                await self._start_over()
            except Unavailable as error:
                level = logging.WARNING if attempt == 3 else logging.DEBUG
                _log.log(level, "cannot follow %s, will try on: %s", self._address, error)
            self._client.leave(at)
            await self._clock.sleep(_BACKOFF.delay(attempt))
            attempt += 1

    async def _start_over(self) -> None:
        """What happened since the last revision seen is compacted: take what there is now, and let readers list."""
        # While it is read page by page, it may be compacted again.
        with contextlib.suppress(Unavailable, EtcdCompacted):
            found, latest = await self._client.everything(0)
            self._restore(found, latest)
            self._watchers.expire()
            self._wake()
            _log.warning("the history of %s was compacted beyond what was seen; all watches list again", self._address)

    def _take(self, events: Sequence[Event]) -> None:
        changes: list[Change] = []
        overlay: dict[str, Entry | None] = {}
        at = self.revision
        for event in events:
            kv, revision = event.kv, event.kv.modified - _OFFSET
            if revision <= at:
                continue
            # Revisions in between wrote nothing that is still told.
            changes += [_nothing(number) for number in range(at + 1, revision)]
            at = revision
            if not kv.key.startswith("/"):
                changes.append(_nothing(revision))
                continue
            previous = overlay[kv.key] if kv.key in overlay else self._index.get(kv.key)
            change = _change(event, previous, revision)
            overlay[kv.key] = None if event.deleted else change.entry
            changes.append(change)
        if not changes:
            return
        target = self._apply(changes)
        self._wake()
        if target > self.compacted and (self._compacting is None or self._compacting.done()):
            self._compacting = asyncio.create_task(self._compact_quietly(target), name="etcd compaction")

    async def _compact_quietly(self, revision: int) -> None:
        try:
            await self.compact(revision)
        except CorralError as error:
            _log.info("cannot compact %s now: %s", self._address, error)

    # Waiting for the mirror

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.revision:
            _, _, waiter = heapq.heappop(self._waiters)
            if not waiter.done():
                waiter.set_result(None)

    async def _reach(self, revision: int) -> None:
        """Return when the mirror shows `revision`.

        Raises:
            Unavailable: it does not get there.
        """
        if self.revision >= revision:
            return
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._numbers), waiter))
        try:
            async with asyncio.timeout(_LAG_SECONDS):
                await asyncio.shield(waiter)
            return
        except TimeoutError:
            self._restart_watch()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await waiter
        except TimeoutError as error:
            raise Unavailable(
                f"cannot follow {self._address}: it has revision {revision}, only {self.revision} has arrived",
                "see that a majority of etcd's members is up",
            ) from error

    def _restart_watch(self) -> None:
        """Open the watch anew, but leave a new one the time to catch up, however many wait for it."""
        now = asyncio.get_running_loop().time()
        if now - self._restarted >= _LAG_SECONDS:
            self._restarted = now
            self._watch_anew()

    def _watch_anew(self) -> None:
        if self._watching is not None and not self._closed:
            self._watching.cancel()
            self._watching = asyncio.create_task(self._mirror(), name="etcd watch")


def _nothing(revision: int) -> Change:
    """A revision that is none of ours."""
    return Change("put", Entry("", b"", revision, revision), None)


def _change(event: Event, previous: Entry | None, revision: int) -> Change:
    kv = event.kv
    if not event.deleted:
        return Change("put", Entry(kv.key, kv.value, revision, kv.created - _OFFSET), previous)
    if previous is None:
        return _nothing(revision)
    return Change("delete", Entry(kv.key, previous.value, revision, previous.created), previous)

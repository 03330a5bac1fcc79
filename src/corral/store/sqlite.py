"""The embedded store: SQLite underneath, current state in memory, one writer thread, group commit.

Writes queue on the event loop. As long as no commit is under way, everything queued becomes one batch: each write is
checked against the state in memory overlaid with the batch's earlier writes (so that writes to one key in one batch
behave as if they came one by one), the writer thread commits the batch, and one call back on the loop makes it visible,
wakes watchers and resolves the callers. While the disk is busy the next batch gathers, so that throughput grows with
load and a lone write waits for nobody.

Handing a batch to the thread and back costs about 0.1 ms. On a disk that syncs in a fraction of a millisecond that is a
large part of a commit, so a lone write is committed on the loop itself as long as commits have been quick lately; a
slow one sends the next ones to the thread.

Nothing is visible before it is durable, and a write that lost against another of its own batch is answered only when
the winner is durable.
"""

import asyncio
import logging
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from corral.base.clock import Clock, SystemClock
from corral.base.errors import CorralError
from corral.store.compaction import CompactionPolicy
from corral.store.database import FOLD_BYTES, Database
from corral.store.protocol import Broken, Change, Conflict, Entry, Full
from corral.store.state import State, Write, decide

_log = logging.getLogger(__name__)

# A commit of more than this keeps later writers waiting for longer than the fsync it saves them.
_BATCH_WRITES = 2_000
_BATCH_BYTES = 8 << 20
_QUICK_SECONDS = 0.000_5
_SAID_SECONDS = 60.0
"""That the disk is full is said again after so long without a refusal."""
# How much of the latest commit's time the average takes over.
_WEIGHT = 0.2

_Outcome: TypeAlias = Entry | Conflict
_Answer: TypeAlias = "asyncio.Future[_Outcome]"


@dataclass(slots=True)
class _Batch:
    """Writes that become durable together."""

    changes: list[Change]
    answers: list[tuple[_Answer, _Outcome]]


@dataclass(slots=True)
class _Compaction:
    """History to forget; `done` is None for the automatic ones."""

    superseded: list[int]
    revision: int
    done: "asyncio.Future[None] | None"


class _Fold:
    """The write-ahead log goes into the file."""


_Job: TypeAlias = _Batch | _Compaction | _Fold


class SqliteStore(State):
    """`corral.store.protocol.Store` on one file."""

    def __init__(
        self, path: Path, database: Database, loop: asyncio.AbstractEventLoop, clock: Clock, policy: CompactionPolicy
    ) -> None:
        super().__init__(clock, policy)
        self._path = path
        self._database = database
        self._loop = loop
        self._queue: deque[tuple[Write, _Answer]] = deque()
        self._compactions: deque[tuple[int, asyncio.Future[None] | None]] = deque()
        self._busy = False
        self._commit_seconds = 1.0
        """The moving average of what a commit takes; it starts slow, so that the first ones go to the thread."""
        self._lone = False
        """Whether the latest batch was a single write."""
        self._turn_taken = False
        self._scheduled = False
        self._closing = False
        self._broken: CorralError | None = None
        self._idle: asyncio.Future[None] | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)

    @classmethod
    async def open(
        cls, path: Path, *, clock: Clock | None = None, policy: CompactionPolicy | None = None
    ) -> "SqliteStore":
        """Open the store at `path`, creating it if it does not exist.

        Raises:
            CorralError: another process has it open, it is of a newer version, or it is damaged.
        """
        database = await asyncio.to_thread(Database.open, path)
        try:
            contents = await asyncio.to_thread(database.load)
        except CorralError:
            database.close()
            raise
        loop = asyncio.get_running_loop()
        store = cls(path, database, loop, clock or SystemClock(), policy or CompactionPolicy())
        store._index.restore(contents.entries, contents.changes, contents.revision, contents.compacted)
        store._thread.start()
        return store

    async def compact(self, revision: int) -> None:
        self._check_open()
        self._index.check(max(revision, self.compacted))
        done = self._loop.create_future()
        self._compactions.append((revision, done))
        self._schedule()
        await done

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        while self._busy or self._queue or self._compactions:
            self._idle = self._loop.create_future()
            await self._idle
        self._watchers.close()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._database.close()

    def _check_open(self) -> None:
        if self._broken is not None:
            raise _again(self._broken)
        if self._closing:
            raise CorralError(f"cannot write to the store {self._path}: it is closed")

    async def _write(self, write: Write) -> _Outcome:
        self._check_open()
        if self._may_commit_now():
            return self._commit_now(write)
        answer: _Answer = self._loop.create_future()
        self._queue.append((write, answer))
        self._schedule()
        return await answer

    def _may_commit_now(self) -> bool:
        """Whether a write may skip the queue: the disk is quick, nothing is under way, writes have come one at a time
        lately, and this is the first of this turn of the loop (the next ones of the turn make a batch)."""
        return (
            self._lone
            and not self._turn_taken
            and self._commit_seconds < _QUICK_SECONDS
            and not (self._busy or self._scheduled or self._queue or self._compactions)
            and self._database.unfolded < FOLD_BYTES
        )

    def _commit_now(self, write: Write) -> _Outcome:
        self._turn_taken = True
        self._loop.call_soon(self._end_turn)
        outcome = decide(write, self._index.get(write.key), self._index.revision + 1)
        if isinstance(outcome, Conflict):
            return outcome
        batch = _Batch([outcome], [])
        failure = self._finish(batch, self._perform(batch))
        if failure is not None:
            raise _again(failure)
        if self._compactions:
            self._schedule()
        return outcome.entry

    def _end_turn(self) -> None:
        self._turn_taken = False

    def _schedule(self) -> None:
        # Through the loop, so that everything this turn of the loop writes goes into one batch.
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Do the next job, or give it to the writer thread, if there is one."""
        self._scheduled = False
        while not self._busy and (job := self._next_job()) is not None:
            self._busy = True
            if isinstance(job, _Batch) and len(job.changes) == 1 and self._commit_seconds < _QUICK_SECONDS:
                self._finish(job, self._perform(job))
            else:
                self._jobs.put(job)
        if not self._busy and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _next_job(self) -> _Job | None:
        if self._database.unfolded >= FOLD_BYTES:
            return _Fold()
        while self._compactions:
            compaction = self._next_compaction()
            if compaction is not None:
                return compaction
        return self._next_batch()

    def _next_batch(self) -> _Batch | None:
        """Decide the queued writes, one after the other; None if that leaves nothing to commit."""
        batch = _Batch([], [])
        overlay: dict[str, Entry | None] = {}
        revision, size = self._index.revision, 0
        while self._queue and len(batch.answers) < _BATCH_WRITES and size < _BATCH_BYTES:
            write, answer = self._queue.popleft()
            key = write.key
            outcome = decide(write, overlay[key] if key in overlay else self._index.get(key), revision + 1)
            if isinstance(outcome, Change):
                revision += 1
                size += len(write.value)
                overlay[key] = outcome.entry if outcome.type == "put" else None
                batch.changes.append(outcome)
                batch.answers.append((answer, outcome.entry))
            elif key in overlay:
                batch.answers.append((answer, outcome))
            else:
                _resolve(answer, outcome)
        self._lone = len(batch.changes) == 1
        return batch if batch.changes else None

    def _next_compaction(self) -> _Compaction | None:
        revision, done = self._compactions.popleft()
        if revision <= self.compacted:
            if done is not None and not done.done():
                done.set_result(None)
            return None
        return _Compaction(self._index.superseded(revision), revision, done)

    def _work(self) -> None:
        """The writer thread."""
        while (job := self._jobs.get()) is not None:
            error = self._perform(job)
            self._loop.call_soon_threadsafe(self._finished, job, error)

    def _perform(self, job: _Job) -> Exception | None:
        """The blocking part of a job; returns what went wrong."""
        try:
            if isinstance(job, _Batch):
                started = self._clock.monotonic()
                self._database.append(job.changes)
                elapsed = self._clock.monotonic() - started
                self._commit_seconds += _WEIGHT * (elapsed - self._commit_seconds)
            elif isinstance(job, _Compaction):
                self._database.compact(job.superseded, job.revision)
            else:
                self._database.fold()
        except Exception as error:
            return error
        return None

    def _finished(self, job: _Job, error: Exception | None) -> None:
        """Back on the loop after the thread has done a job."""
        self._finish(job, error)
        self._pump()

    def _finish(self, job: _Job, error: Exception | None) -> CorralError | None:
        """The job is durable, or `error` says why not; returns what its callers are told then."""
        self._busy = False
        failure = error if error is None or isinstance(error, Full) else self._break(error)
        if isinstance(failure, Full):
            self._note_refusal(failure)
        if isinstance(job, _Batch):
            self._finish_batch(job, failure)
        elif isinstance(job, _Compaction):
            self._finish_compaction(job, failure)
        return failure

    def _note_refusal(self, failure: Full) -> None:
        now = self._clock.monotonic()
        if now - self.refused > _SAID_SECONDS:
            _log.error("%s; %s: until then writes are refused, and reads go on", failure.message, failure.remedy)
        self.refused = now

    def _finish_batch(self, batch: _Batch, failure: CorralError | None) -> None:
        if failure is not None:
            for answer, _ in batch.answers:
                _refuse(answer, failure)
            return
        target = self._apply(batch.changes)
        for answer, outcome in batch.answers:
            _resolve(answer, outcome)
        if target > self.compacted and not self._compactions and not self._closing:
            self._compactions.append((target, None))

    def _finish_compaction(self, compaction: _Compaction, failure: CorralError | None) -> None:
        done = compaction.done
        if failure is None:
            self._index.forget(compaction.revision)
            if done is not None and not done.done():
                done.set_result(None)
        elif done is not None:
            _refuse(done, failure)
        elif isinstance(failure, Full):
            _log.warning("cannot compact the store %s: no space left; history is kept until there is", self._path)

    def _break(self, error: Exception) -> CorralError:
        """After an I/O error nobody can say what is on disk: refuse all further writes, until a restart reads it."""
        broken = Broken(f"cannot write to the store {self._path}: {error}", "check the disk, then start the cell again")
        broken.__cause__ = error
        self._broken = broken
        _log.error("the store %s is broken and takes no more writes: %s", self._path, error)
        while self._queue:
            _, answer = self._queue.popleft()
            _refuse(answer, broken)
        while self._compactions:
            _, done = self._compactions.popleft()
            if done is not None:
                _refuse(done, broken)
        return broken


def _resolve(answer: _Answer, outcome: _Outcome) -> None:
    if not answer.done():
        answer.set_result(outcome)


def _refuse(answer: "asyncio.Future[_Outcome] | asyncio.Future[None]", failure: CorralError) -> None:
    if not answer.done():
        answer.set_exception(_again(failure))


def _again(failure: CorralError) -> CorralError:
    """The same failure as an exception of its own: one object raised many times would gather all their tracebacks."""
    copy = type(failure)(failure.message, failure.remedy)
    copy.__cause__ = failure.__cause__
    return copy

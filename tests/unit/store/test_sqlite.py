"""What only the SQLite store has: a file, its versions, its damages, its lock, its compaction."""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.base.errors import CorralError
from corral.store.compaction import CompactionPolicy
from corral.store.database import SCHEMA_VERSION, Database
from corral.store.protocol import Broken, Change, Entry, Full
from corral.store.sqlite import SqliteStore
from corral.testing.clock import FakeClock
from corral.testing.store_suite import changes_of, wrote


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def filled(path: Path, count: int = 10) -> None:
    store = await SqliteStore.open(path)
    for number in range(count):
        wrote(await store.create(f"/a/{number:03d}", b"x" * 100))
    await store.close()


async def test_state_history_and_compaction_point_survive_a_restart(path: Path) -> None:
    store = await SqliteStore.open(path)
    wrote(await store.create("/a/1", b"1"))
    wrote(await store.update("/a/1", b"2", 1))
    wrote(await store.create("/a/2", b"3"))
    await store.compact(2)
    wrote(await store.delete("/a/2", 3))
    await store.close()

    store = await SqliteStore.open(path)
    assert (store.revision, store.compacted) == (4, 2)
    entry = store.get("/a/1")
    assert entry is not None
    assert (entry.value, entry.revision, entry.created) == (b"2", 2, 1)
    changes = await changes_of(store.watch("/a/", after=2), 2)
    assert [(c.type, c.entry.revision, c.entry.value) for c in changes] == [("put", 3, b"3"), ("delete", 4, b"3")]
    await store.close()


async def test_the_revision_does_not_go_back_when_the_last_write_was_a_compacted_delete(path: Path) -> None:
    store = await SqliteStore.open(path)
    wrote(await store.create("/a/1", b""))
    wrote(await store.delete("/a/1", 1))
    await store.compact(2)
    await store.close()
    store = await SqliteStore.open(path)
    assert (store.revision, store.compacted, store.current("/")) == (2, 2, ((), 2))
    await store.close()


async def test_compaction_leaves_the_current_rows_only(path: Path) -> None:
    store = await SqliteStore.open(path, policy=CompactionPolicy(keep=20, seconds=0.0, most=50, step=10))
    entry = wrote(await store.create("/a/kept", b""))
    other = wrote(await store.create("/a/busy", b"0"))
    for number in range(200):
        other = wrote(await store.update("/a/busy", b"%d" % number, other.revision))
    await store.close()
    with sqlite3.connect(path) as connection:
        rows = [row[0] for row in connection.execute("SELECT revision FROM log")]
    connection.close()
    assert entry.revision in rows
    assert other.revision in rows
    assert len(rows) <= 20 + 10 + 2


async def test_a_second_opening_is_refused_by_name(path: Path) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(CorralError, match="another process has it open"):
        await SqliteStore.open(path)
    await store.close()
    await (await SqliteStore.open(path)).close()


async def test_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    await filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(CorralError, match=f"version {SCHEMA_VERSION + 1}") as caught:
        await SqliteStore.open(path)
    assert "newer" in caught.value.remedy
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.close()
    store = await SqliteStore.open(path)
    assert store.revision == 10
    await store.close()


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"hello, I am a text file\n" * 200)
    with pytest.raises(CorralError, match="damaged"):
        asyncio.run(SqliteStore.open(path))
    assert path.read_bytes().startswith(b"hello")


async def test_a_database_of_something_else_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(CorralError, match="something else"):
        await SqliteStore.open(path)


def test_overwritten_pages_are_refused(path: Path) -> None:
    asyncio.run(filled(path, 500))
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(CorralError, match="damaged"):
        asyncio.run(SqliteStore.open(path))


async def test_a_missing_revision_is_refused(path: Path) -> None:
    await filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM log WHERE revision = 5")
    connection.close()
    with pytest.raises(CorralError, match="revision 5 is missing"):
        await SqliteStore.open(path)


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match=r"nowhere/state\.db"):
        await SqliteStore.open(tmp_path / "nowhere" / "state.db")


async def test_after_an_io_error_no_write_is_taken_and_reads_go_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(path)
    wrote(await store.create("/a/1", b""))

    def fail(self: Database, changes: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "append", fail)
        outcomes = await asyncio.gather(
            store.create("/a/2", b""), store.create("/a/3", b""), store.compact(1), return_exceptions=True
        )
    assert [type(outcome) for outcome in outcomes[:2]] == [Broken, Broken]
    with pytest.raises(CorralError, match="disk I/O error"):
        await store.create("/a/2", b"")
    assert store.get("/a/1") is not None
    assert store.get("/a/2") is None
    assert store.revision == 1
    await store.close()


async def test_a_caller_who_gives_up_disturbs_nobody(path: Path) -> None:
    store = await SqliteStore.open(path)
    impatient = asyncio.ensure_future(store.create("/a/1", b""))
    patient = asyncio.ensure_future(store.create("/a/2", b""))
    await asyncio.sleep(0)
    impatient.cancel()
    assert isinstance(await patient, Entry)
    await store.close()


async def test_closing_waits_for_the_writes_that_were_asked_for(path: Path) -> None:
    store = await SqliteStore.open(path)
    writes = [asyncio.ensure_future(store.create(f"/a/{number}", b"")) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [type(await write) for write in writes] == [Entry] * 50


class _Stopwatch(FakeClock):
    """A clock that moves by `step` seconds each time it is read."""

    step = 0.0
    reading = 0.0

    def monotonic(self) -> float:
        self.reading += self.step
        return self.reading


async def test_lone_writes_need_the_thread_only_while_the_disk_is_slow(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []
    append = Database.append

    def recording(self: Database, changes: Sequence[Change]) -> None:
        on_loop.append(threading.current_thread() is threading.main_thread())
        append(self, changes)

    monkeypatch.setattr(Database, "append", recording)
    clock = _Stopwatch()
    store = await SqliteStore.open(path, clock=clock)
    entry = wrote(await store.create("/a/1", b""))
    for _ in range(60):
        entry = wrote(await store.update("/a/1", b"", entry.revision))
        await asyncio.sleep(0)
    assert (on_loop[0], on_loop[-1]) == (False, True)

    outcomes = await asyncio.gather(*(store.update("/a/1", b"%d" % n, entry.revision) for n in range(3)))
    assert [isinstance(outcome, Entry) for outcome in outcomes] == [True, False, False]

    clock.step = 0.1
    entry = wrote(await store.create("/a/2", b""))
    await asyncio.sleep(0)
    wrote(await store.update("/a/2", b"", entry.revision))
    assert not on_loop[-1]
    await store.close()


async def test_a_lone_write_that_fails_is_refused_and_not_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await SqliteStore.open(path, clock=_Stopwatch())
    for number in range(60):
        wrote(await store.create(f"/a/{number}", b""))
        await asyncio.sleep(0)

    def full(self: Database, changes: Sequence[Change]) -> None:
        raise Full("cannot write: no space left", "make room")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "append", full)
        with pytest.raises(Full):
            await store.create("/a/lost", b"")
    await asyncio.sleep(0)
    assert store.get("/a/lost") is None
    assert wrote(await store.create("/a/kept", b"")).revision == 61
    await store.close()


async def test_the_file_and_its_journals_are_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for _ in range(2):
        store = await SqliteStore.open(path)
        await store.create("/a", b"{}")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        await store.close()
        assert modes["store.db"] == 0o600
        assert set(modes.values()) == {0o600}
        path.chmod(0o644)

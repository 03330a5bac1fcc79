"""Backups hold everything, are all or nothing, and say when they were tampered with."""

import gzip
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.app.snapshots import Snapshots, surplus
from corral.base.errors import CorralError
from corral.store import backup
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock
from corral.testing.store_suite import wrote

TAKEN = "2026-01-01T00:00:00Z"


async def filled() -> MemoryStore:
    store = MemoryStore()
    entry = wrote(await store.create("/a/1", b"old"))
    wrote(await store.create("/a/2", b"\x00\xff"))
    wrote(await store.update("/a/1", b"new", entry.revision))
    return store


async def test_what_is_restored_is_what_was_there(tmp_path: Path) -> None:
    store, path = await filled(), tmp_path / "file"
    backup.write(path, backup.lines(*store.current("/"), TAKEN))
    assert path.stat().st_mode & 0o777 == 0o600
    content = backup.read(path)
    assert (content.revision, content.taken) == (3, TAKEN)
    assert [record.key for record in content.records] == ["/a/2", "/a/1"], "the latest write comes last"
    other = MemoryStore()
    told: list[tuple[int, int]] = []
    await backup.fill(other, content.records, lambda done, total: told.append((done, total)))
    assert backup.differences(other, content.records) == []
    assert told == [(2, 2)]
    wrote(await other.create("/a/3", b""))
    assert backup.differences(other, content.records) == ["/a/3"]
    with pytest.raises(CorralError, match="not empty"):
        await backup.fill(other, content.records, lambda done, total: None)
    await backup.empty(other)
    assert other.current("/")[0] == ()


@given(st.integers(0, 10_000), st.integers(1, 255))
async def test_a_file_that_was_changed_or_cut_is_refused(place: int, flip: int) -> None:
    whole = b"".join(backup.lines(*(await filled()).current("/"), TAKEN))
    place %= len(whole) - 1  # the last line break says nothing
    changed = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
    path = Path("/tmp") / f"corral-test-backup-{id(whole)}"
    try:
        for content in (gzip.compress(changed), gzip.compress(whole[:place]), gzip.compress(whole)[: place // 2]):
            path.write_bytes(content)
            with pytest.raises(CorralError, match="as a backup"):
                backup.read(path)
    finally:
        path.unlink()


@given(st.integers(0, 10_000), st.integers(1, 255))
async def test_a_file_that_a_disk_spoilt_is_refused_or_read_rightly(place: int, flip: int) -> None:
    whole = backup.compress(backup.lines(*(await filled()).current("/"), TAKEN))
    place %= len(whole)
    path = Path("/tmp") / f"corral-test-backup-{id(whole)}"
    try:
        path.write_bytes(whole)
        good = backup.read(path)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        with suppress(CorralError):
            assert backup.read(path) == good
    finally:
        path.unlink()


def test_a_file_or_link_that_somebody_put_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("his")
    for name in ("file", ".file.new"):
        (tmp_path / name).symlink_to(other)
    backup.save(tmp_path / "file", b"secret")
    assert other.read_text() == "his"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_backup_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorralError, match="cannot write"):
        backup.save(tmp_path / "none" / "file", b"")
    (tmp_path / "taken").mkdir()
    with pytest.raises(CorralError, match="cannot write"):
        backup.save(tmp_path / "taken", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


async def test_the_cell_backs_itself_up_when_something_changed(tmp_path: Path) -> None:
    store, clock = await filled(), FakeClock()
    snapshots = Snapshots(tmp_path / "backups", store, clock)
    first = await snapshots.take()
    assert first is not None
    assert len(backup.read(first).records) == 2
    assert await snapshots.take() is None
    wrote(await store.create("/a/3", b""))
    await clock.advance(3600)
    second = await snapshots.take()
    assert second is not None
    assert sorted((tmp_path / "backups").iterdir()) == [first, second]


def test_older_backups_thin_out() -> None:
    now = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    hours = [now - timedelta(hours=number) for number in range(24 * 20)]
    paths = [Path(moment.strftime("%Y%m%dT%H%M%SZ.corral-backup")) for moment in hours]
    gone = surplus([*paths, Path("notes.corral-backup")], now)
    kept = [path for path in paths if path not in gone]
    assert len([path for path in kept if path in paths[:25]]) == 25
    assert len(kept) in (25 + 6, 25 + 7)
    assert len({path.name[:8] for path in kept}) == 8

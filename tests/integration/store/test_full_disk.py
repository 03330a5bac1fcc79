"""A full disk refuses writes by name, keeps what was there, and goes on when there is room."""

import asyncio
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.store.protocol import Entry, Full
from corral.store.sqlite import SqliteStore

_DETACH = 2  # MNT_DETACH: also when a failed test left a file open
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    target = str(tmp_path).encode()
    if _libc.mount(b"corral-test", target, b"tmpfs", 0, b"size=2m") != 0:
        pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
    yield tmp_path
    if _libc.umount2(target, _DETACH) != 0:
        raise OSError(ctypes.get_errno(), "cannot unmount the small file system")


async def test_a_full_disk_refuses_writes_keeps_state_and_recovers(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ballast = small_disk / "ballast"
    await asyncio.to_thread(ballast.write_bytes, b"\0" * 500_000)
    store = await SqliteStore.open(small_disk / "state.db")
    value = os.urandom(10_000)
    written: list[Entry] = []

    async def fill() -> None:
        for number in range(1_000):
            entry = await store.create(f"/a/{number:04d}", value)
            assert isinstance(entry, Entry)
            written.append(entry)

    with pytest.raises(Full) as caught:
        await fill()
    assert "make room" in caught.value.remedy
    assert len(written) > 10

    outcomes = await asyncio.gather(*(store.create(f"/b/{n}", value) for n in range(5)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Full] * 5
    assert time.monotonic() - store.refused < 60
    assert [record.levelname for record in caplog.records if "make room" in record.getMessage()] == ["ERROR"]
    assert store.revision == len(written)
    assert list(store.current("/")[0]) == written

    await asyncio.to_thread(ballast.unlink)
    again = await store.create("/b/0", value)
    assert isinstance(again, Entry)
    assert again.revision == len(written) + 1
    await store.close()

    store = await SqliteStore.open(small_disk / "state.db")
    assert [entry.value for entry in store.current("/")[0]] == [value] * (len(written) + 1)
    await store.close()

"""SIGKILL at any moment loses no acknowledged write and leaves no gap."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from corral.store.sqlite import SqliteStore

_KILLS = 200
_AT_ONCE = 2
_WRITERS = 8
"""How many writes crashing_writer.py has in flight at most."""
_WRITER = Path(__file__).with_name("crashing_writer.py")


async def _run_and_kill(path: Path, seed: int, lines: int) -> list[bytes]:
    """Run a writer until it has reported `lines` writes, kill it, and return all that it reported."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(_WRITER), str(path), str(seed), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    reported = [await process.stdout.readline() for _ in range(lines)]
    os.kill(process.pid, signal.SIGKILL)
    reported += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return [line for line in reported if line.endswith(b"\n")]


async def _crash_repeatedly(path: Path, seeds: range) -> int:
    """Crash writers on one store, checking after each; returns how many acknowledged writes there were."""
    known: dict[str, tuple[int, bytes]] = {}
    """Key -> revision and value of the latest write that must have survived."""
    highest = total = 0
    for seed in seeds:
        lines = await _run_and_kill(path, seed, random.Random(seed).randrange(1, 150))
        total += len(lines)
        for line in lines:
            number, key, value = line.decode().split()
            assert int(number) > known.get(key, (0, b""))[0]
            known[key] = (int(number), value.encode())
            highest = max(highest, int(number))
        # Opening checks that no revision above the compaction point is missing.
        store = await SqliteStore.open(path)
        assert highest <= store.revision <= highest + _WRITERS
        overtaken = sum(not _stands(store, key, revision, text) for key, (revision, text) in known.items())
        assert overtaken <= _WRITERS
        # What the dead writer did not get to report is known from now on.
        known = {entry.key: (entry.revision, entry.value.split(b".")[0]) for entry in store.current("/")[0]}
        highest = store.revision
        await store.close()
    return total


def _stands(store: SqliteStore, key: str, revision: int, text: bytes) -> bool:
    """Whether the acknowledged write is the key's latest; if not, the writer had one in flight when it died."""
    entry = store.get(key)
    if entry is None:
        return text == b"-"
    if entry.revision == revision:
        assert entry.value.split(b".")[0] == text
        return True
    assert entry.revision > revision
    return False


@pytest.mark.timeout(300)
async def test_no_acknowledged_write_is_lost_by_sigkill(tmp_path: Path) -> None:
    share = _KILLS // _AT_ONCE
    totals = await asyncio.gather(
        *(
            _crash_repeatedly(tmp_path / f"{number}.db", range(number * share, (number + 1) * share))
            for number in range(_AT_ONCE)
        )
    )
    assert sum(totals) >= _KILLS

"""The store's hot paths: durable commits grouped and one by one, beside bare SQLite, and fan-out to watchers.

    python bench/store.py [--directory DIR] [--json]

The directory must be on the disk to be measured; both sides fsync before they answer. Ratios are against bare sqlite3
(the same pragmas, the same table, no store around it) in the same run.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import time
from pathlib import Path

import uvloop

from corral.store.memory import MemoryStore
from corral.store.protocol import Entry, Store
from corral.store.sqlite import SqliteStore

_VALUE = os.urandom(1024)
_WATCHERS = 1_000
_STRETCH = 4


def _bare(directory: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT, created INTEGER, value BLOB)")
    return connection


async def _one_by_one(directory: Path, seconds: float) -> dict[str, float]:
    """Alternate short stretches of both sides, so that a busy disk is as unfair to one as to the other."""
    bare, store = _bare(directory), await SqliteStore.open(directory / "single.db")
    bare_seconds, store_seconds, number = 0.0, 0.0, 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(_STRETCH):
            number += 1
            row = (number, f"/core/configmaps/default/{number}", number, _VALUE)
            start = time.perf_counter()
            bare.execute("INSERT INTO log VALUES (?, ?, ?, ?)", row)
            bare_seconds += time.perf_counter() - start
        for _ in range(_STRETCH):
            number += 1
            key = f"/core/configmaps/default/{number}"
            start = time.perf_counter()
            await store.create(key, _VALUE)
            store_seconds += time.perf_counter() - start
            # Each write in a turn of its own, as requests come.
            await asyncio.sleep(0)
    await store.close()
    bare.close()
    return {"bare sqlite": number / 2 / bare_seconds, "store": number / 2 / store_seconds}


async def _grouped(directory: Path, writers: int, seconds: float) -> float:
    store = await SqliteStore.open(directory / f"grouped-{writers}.db")
    end = time.perf_counter() + seconds

    async def write(writer: int) -> int:
        count = 0
        while time.perf_counter() < end:
            await store.create(f"/core/configmaps/default/{writer}-{count}", _VALUE)
            count += 1
        return count

    start = time.perf_counter()
    counts = await asyncio.gather(*(write(writer) for writer in range(writers)))
    rate = sum(counts) / (time.perf_counter() - start)
    await store.close()
    return rate


async def _fan_out(store: Store, writes: int) -> float:
    """Milliseconds from a write's acknowledgement until the last of the watchers has it, worst of `writes`."""
    arrived = 0
    last = asyncio.Event()

    async def read() -> None:
        nonlocal arrived
        async for _ in store.watch("/core/pods/", after=store.revision):
            arrived += 1
            if arrived % _WATCHERS == 0:
                last.set()

    readers = [asyncio.create_task(read()) for _ in range(_WATCHERS)]
    await asyncio.sleep(0)
    worst = 0.0
    for number in range(writes):
        assert isinstance(await store.create(f"/core/pods/default/{number}", _VALUE), Entry)
        start = time.perf_counter()
        await last.wait()
        last.clear()
        worst = max(worst, time.perf_counter() - start)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return worst * 1e3


async def _reopen(directory: Path, count: int) -> dict[str, float]:
    """Seconds to open a store of `count` objects, and microseconds of a listing that is cached and one that is not."""
    path = directory / "reopen.db"
    store = await SqliteStore.open(path)
    await asyncio.gather(*(store.create(f"/core/pods/ns-{n % 50}/pod-{n}", _VALUE) for n in range(count)))
    await store.close()
    start = time.perf_counter()
    store = await SqliteStore.open(path)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    store.current("/core/pods/")
    cold = time.perf_counter() - start
    start = time.perf_counter()
    store.current("/core/pods/")
    warm = time.perf_counter() - start
    await store.close()
    return {"open s": opened, "listing cold ms": cold * 1e3, "listing cached us": warm * 1e6}


async def _measure(directory: Path, seconds: float) -> dict[str, float]:
    single = await _one_by_one(directory, seconds)
    results = {
        "bare SQLite, one at a time, commits/s": single["bare sqlite"],
        "one at a time, commits/s": single["store"],
        "one at a time / bare SQLite": single["store"] / single["bare sqlite"],
    }
    for writers in (8, 64, 512):
        results[f"grouped, {writers} writers, commits/s"] = await _grouped(directory, writers, seconds)
    results[f"fan-out to {_WATCHERS} watchers, worst ms"] = await _fan_out(MemoryStore(), 20)
    for name, figure in (await _reopen(directory, 20_000)).items():
        results[f"20,000 objects of 1 KB, {name}"] = figure
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=None, help="where to write (default: a temporary directory)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        results = uvloop.run(_measure(Path(directory), options.seconds))
    if options.json:
        print(json.dumps(results))
        return
    for name, figure in results.items():
        print(f"{name:<48} {figure:>12,.2f}")


if __name__ == "__main__":
    main()

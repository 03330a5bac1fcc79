"""A process that writes to a store as fast as it can and reports each acknowledged write, until it is killed.

Usage: crashing_writer.py STORE SEED. Each line of its output is `REVISION KEY VALUE-OR-DASH`, written after the store
acknowledged that write.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from corral.store.compaction import CompactionPolicy
from corral.store.protocol import Entry
from corral.store.sqlite import SqliteStore

_WRITERS = 8
_KEYS = 20


async def _write(store: SqliteStore, rng: random.Random, writer: int) -> None:
    while True:
        key = f"/a/{writer}/{rng.randrange(_KEYS)}"
        value = b"%d" % rng.getrandbits(64) + b"." * rng.randrange(2_000)
        current = store.get(key)
        if current is None:
            outcome = await store.create(key, value)
        elif rng.random() < 0.3:
            outcome = await store.delete(key, current.revision)
            value = b"-"
        else:
            outcome = await store.update(key, value, current.revision)
        if not isinstance(outcome, Entry):
            raise RuntimeError(f"a key with one writer lost a race: {outcome}")
        os.write(1, b"%d %s %s\n" % (outcome.revision, key.encode(), value.split(b".")[0]))


async def _main(path: Path, seed: int) -> None:
    # A short history, so that compaction is under way at many of the kills.
    store = await SqliteStore.open(path, policy=CompactionPolicy(keep=50, seconds=0.0, most=200, step=20))
    async with asyncio.TaskGroup() as tasks:
        for writer in range(_WRITERS):
            tasks.create_task(_write(store, random.Random(seed * _WRITERS + writer), writer))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2])))

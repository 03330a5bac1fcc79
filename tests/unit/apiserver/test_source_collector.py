"""Uploads that nothing refers to are forgotten, and no others."""

import os
from pathlib import Path

import orjson
import pytest

from corral.apiserver.source_collector import KEEP_SECONDS, SourceCollector
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def plant(directory: Path, clock: FakeClock, *names: str) -> None:
    for name in names:
        path = directory / "default" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (clock.now().timestamp(),) * 2)


async def test_only_the_old_and_unused_go(tmp_path: Path, clock: FakeClock) -> None:
    store = MemoryStore()
    volume = {"csi": {"driver": "source.corral.dev", "volumeAttributes": {"digest": A}}}
    job = {"kind": "Job", "spec": {"template": {"spec": {"volumes": [volume]}}}}
    await store.create("/batch/jobs/default/j", orjson.dumps(job))
    plant(tmp_path, clock, A, B)
    (tmp_path / ".upload-x").touch()
    collector = SourceCollector(tmp_path, store, clock)
    assert collector.used() == {A}
    await clock.advance(KEEP_SECONDS - 3600)
    plant(tmp_path, clock, C)
    assert collector.collect(collector.used()) == 0
    await clock.advance(2 * 3600)
    assert collector.collect(collector.used()) == 1
    assert {path.name for path in (tmp_path / "default").iterdir()} == {A, C}
    assert (tmp_path / ".upload-x").exists()

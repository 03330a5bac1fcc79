"""When history is forgotten."""

from corral.store.compaction import CompactionClock, CompactionPolicy
from corral.store.memory import MemoryStore
from corral.testing.clock import FakeClock

POLICY = CompactionPolicy(keep=100, seconds=60.0, most=500, step=10)


def test_the_newest_revisions_stay_however_old_they_are() -> None:
    clock = CompactionClock(POLICY)
    clock.note(100, 0.0)
    assert clock.target(100, 0, 10_000.0) == 0


def test_older_ones_go_when_their_time_is_over() -> None:
    clock = CompactionClock(POLICY)
    clock.note(20, 0.0)
    clock.note(150, 30.0)
    assert clock.target(150, 0, 59.0) == 0
    assert clock.target(150, 0, 60.0) == 10
    assert clock.target(150, 10, 60.0) == 20
    assert clock.target(150, 20, 60.0) == 20
    assert clock.target(150, 20, 90.0) == 30


def test_there_is_a_most_however_young_they_are() -> None:
    clock = CompactionClock(POLICY)
    clock.note(1, 0.0)
    clock.note(600, 1.0)
    assert clock.target(600, 0, 1.0) == 10
    assert clock.target(600, 95, 1.0) == 95


def test_nothing_goes_below_a_step() -> None:
    clock = CompactionClock(POLICY)
    clock.note(109, 0.0)
    assert clock.target(109, 0, 1_000.0) == 0
    clock.note(110, 1_000.0)
    assert clock.target(110, 0, 2_000.0) == 10


async def test_a_store_compacts_itself_as_its_clock_moves() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock, policy=POLICY)
    for number in range(120):
        await store.create(f"/a/{number}", b"")
    assert store.compacted == 0
    await clock.advance(61)
    for number in range(120, 140):
        await store.create(f"/a/{number}", b"")
    assert 10 <= store.compacted <= 40
    assert len(store.current("/a/")[0]) == 140

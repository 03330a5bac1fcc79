"""Keyed queues: serial per key, coalescing, the earliest wake-up wins."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.machinery.queue import KeyQueue
from corral.testing.clock import FakeClock, settle


class Setup:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue: KeyQueue[str] = KeyQueue(self.clock)
        self.timer = asyncio.create_task(self.queue.run())


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    made = Setup()
    yield made
    made.timer.cancel()
    await asyncio.gather(made.timer, return_exceptions=True)


async def test_a_key_waits_once(setup: Setup) -> None:
    for key in ("a", "b", "a"):
        setup.queue.add(key)
    assert len(setup.queue) == 2
    assert [await setup.queue.get(), await setup.queue.get()] == ["a", "b"]


async def test_a_key_added_while_worked_on_comes_back_after(setup: Setup) -> None:
    setup.queue.add("a")
    key = await setup.queue.get()
    setup.queue.add("a")
    setup.queue.add("a")
    assert len(setup.queue) == 0
    setup.queue.done(key)
    assert len(setup.queue) == 1


async def test_the_earliest_wake_up_wins(setup: Setup) -> None:
    for seconds in (30, 10, 20):
        setup.queue.add_after("a", seconds)
    await setup.clock.advance(9)
    assert len(setup.queue) == 0
    await setup.clock.advance(1)
    assert await setup.queue.get() == "a"
    setup.queue.done("a")
    await setup.clock.advance(60)
    assert len(setup.queue) == 0


async def test_taking_a_key_clears_its_wake_up(setup: Setup) -> None:
    setup.queue.add_after("a", 10)
    setup.queue.add("a")
    setup.queue.done(await setup.queue.get())
    await setup.clock.advance(60)
    assert len(setup.queue) == 0


async def test_an_earlier_wake_up_shortens_the_sleep(setup: Setup) -> None:
    setup.queue.add_after("late", 100)
    await settle()
    setup.queue.add_after("soon", 1)
    await setup.clock.advance(1)
    assert await setup.queue.get() == "soon"


async def test_retries_back_off_until_it_goes_well(setup: Setup) -> None:
    delays = [setup.queue.retry("a") for _ in range(20)]
    assert delays[:3] == [0.005, 0.01, 0.02]
    assert delays[-1] == 300
    assert setup.queue.failures("a") == 20
    setup.queue.forget("a")
    assert setup.queue.retry("a") == 0.005


async def test_a_cancelled_getter_loses_nothing(setup: Setup) -> None:
    first = asyncio.create_task(setup.queue.get())
    second = asyncio.create_task(setup.queue.get())
    await settle()
    setup.queue.add("a")
    first.cancel()
    await settle()
    assert second.done()
    assert await second == "a"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=30), st.integers(1, 4))
async def test_no_key_is_worked_on_twice_at_once_and_none_is_forgotten(
    arrivals: list[tuple[str, int]], workers: int
) -> None:
    clock = FakeClock()
    queue: KeyQueue[str] = KeyQueue(clock)
    timer = asyncio.create_task(queue.run())
    active: set[str] = set()
    seen: dict[str, int] = {}
    added: dict[str, int] = {}

    async def work() -> None:
        while True:
            key = await queue.get()
            assert key not in active
            active.add(key)
            seen[key] = added.get(key, 0)
            await clock.sleep(1)
            active.remove(key)
            queue.done(key)

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    for number, (key, pause) in enumerate(arrivals):
        added[key] = number
        queue.add(key)
        await clock.advance(pause)
    await clock.advance(100)
    assert seen == added
    assert not any(task.done() for task in tasks)
    for task in (*tasks, timer):
        task.cancel()
    await asyncio.gather(*tasks, timer, return_exceptions=True)

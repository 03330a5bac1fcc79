"""Counting the time of steps."""

import asyncio

import pytest

from corral.machinery.metered import Metered


class Steps:
    """A clock that moves only when a step says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def take(self, seconds: float) -> None:
        self.now += seconds

    async def work(self, gate: "asyncio.Future[str]") -> str:
        self.take(1)
        try:
            found = await gate
        finally:
            self.take(2)
        await asyncio.sleep(0)
        self.take(4)
        return found


async def test_steps_count_and_waiting_does_not() -> None:
    steps, gate = Steps(), asyncio.get_running_loop().create_future()
    metered = Metered(steps.work(gate), lambda: steps.now)
    task = asyncio.ensure_future(metered)
    await asyncio.sleep(0)
    steps.take(100)
    gate.set_result("found")
    assert await task == "found"
    assert metered.spent == 7


async def test_a_cancellation_reaches_the_work() -> None:
    steps, gate = Steps(), asyncio.get_running_loop().create_future()
    metered = Metered(steps.work(gate), lambda: steps.now)
    task = asyncio.ensure_future(metered)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.cancelled()
    assert metered.spent == 3


async def test_an_error_of_the_work_is_its_callers() -> None:
    steps, gate = Steps(), asyncio.get_running_loop().create_future()
    gate.set_exception(OSError("no"))
    metered = Metered(steps.work(gate), lambda: steps.now)
    with pytest.raises(OSError, match="no"):
        await metered
    assert metered.spent == 3

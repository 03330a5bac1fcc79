"""Background tasks: who fails is told of, also if it only was cancelled by what it waited for."""

import asyncio
import logging

import pytest

from corral.base.tasks import TaskStack


async def _wait(event: "asyncio.Future[None]") -> None:
    await event


async def test_a_task_that_fails_is_told_of() -> None:
    tasks = await TaskStack().__aenter__()
    assert tasks.failed is not None
    event = asyncio.get_running_loop().create_future()
    tasks.start(_wait(event), "waits")
    event.set_exception(ValueError("broken"))
    assert isinstance(await tasks.failed, ValueError)
    with pytest.raises(ValueError, match="broken"):
        await tasks.__aexit__(None, None, None)


async def test_a_task_whose_future_was_cancelled_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    async with TaskStack() as tasks:
        assert tasks.failed is not None
        event = asyncio.get_running_loop().create_future()
        tasks.start(_wait(event), "waits")
        await asyncio.sleep(0)
        event.cancel()
        assert isinstance(await tasks.failed, RuntimeError)
    assert "background task waits failed" in caplog.text


async def test_tasks_that_are_stopped_have_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with TaskStack() as tasks:
        cancelled = tasks.start(asyncio.Event().wait(), "is cancelled")
        tasks.start(asyncio.Event().wait(), "is left running")
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert tasks.failed is not None
        assert not tasks.failed.done()
    assert not caplog.records

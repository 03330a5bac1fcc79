"""Structured concurrency: tasks with an owner and a name, and a way to end them in reverse order."""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class TaskStack:
    """Background tasks that are cancelled in reverse order of their start when the block ends.

    If a task fails, `failed` resolves with its exception, so that the owner can end the block; `__aexit__` raises the
    failures together with the first one kept, as an `ExceptionGroup` when there is more than one.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self.failed: asyncio.Future[BaseException] | None = None

    async def __aenter__(self) -> "TaskStack":
        self.failed = asyncio.get_running_loop().create_future()
        return self

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `coroutine` until the block ends."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._note)
        self._tasks.append(task)
        return task

    def _note(self, task: asyncio.Task[Any]) -> None:
        if self.failed is None or self.failed.done() or was_stopped(task):
            return
        error = RuntimeError("cancelled by what it waited for") if task.cancelled() else task.exception()
        if error is not None:
            # Said at once: nobody may be waiting for `failed`, and the block may last for weeks.
            logger.error("background task %s failed", task.get_name(), exc_info=error)
            self.failed.set_result(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures: list[Exception] = []
        for task in reversed(self._tasks):
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            except Exception as failure:
                failures.append(failure)
        if failures and error is None:
            if len(failures) == 1:
                raise failures[0]
            raise ExceptionGroup("background tasks failed", failures)


def was_stopped(task: asyncio.Task[Any]) -> bool:
    """Whether somebody has cancelled it, rather than what it waited for."""
    return task.cancelled() and task.cancelling() > 0

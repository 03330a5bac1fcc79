"""How long a piece of work keeps the event loop from everything else: its own steps, not what it waits for."""

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Metered(Generic[T]):
    """Awaits `work` and notes the seconds that its steps take.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, work: Awaitable[T], now: Callable[[], float]) -> None:
        self.spent = 0.0
        self._work = work
        self._now = now

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._work.__await__()
        error: BaseException | None = None
        while True:
            began = self._now()
            try:
                waits_for = next(steps) if error is None else steps.throw(error)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self.spent += self._now() - began
            error = None
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown

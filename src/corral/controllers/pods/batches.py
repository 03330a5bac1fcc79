"""Many writes in growing batches.

If the first of a hundred creates is refused (a quota, a bad template), the other ninety-nine would be too: batches of
1, 2, 4, ... stop at the first batch with a failure (Kubernetes' `slowStartBatch`). They stop growing where a batch
would keep others from the event loop for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from corral.kinds.status import StatusError

T = TypeVar("T")

_LARGEST = 250


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many writes were made, and why the rest were not."""

    done: int
    refused: StatusError | None = None


async def slow_start(
    items: Sequence[T], act: Callable[[T], Awaitable[object]], *, enough: Callable[[], bool] = lambda: False
) -> Outcome:
    """Call `act` on each item, in batches that double, until one is refused, or `enough` says that it is between two.

    Raises:
        Exception: the first failure that is no `StatusError`, after its whole batch has ended.
    """
    done, size, at = 0, 1, 0
    while at < len(items) and not (at and enough()):
        batch = items[at : at + size]
        results = await asyncio.gather(*(act(item) for item in batch), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        done += len(batch) - len(failures)
        for failure in failures:
            if not isinstance(failure, StatusError):
                raise failure
        if failures:
            first = failures[0]
            return Outcome(done, first if isinstance(first, StatusError) else None)
        at += len(batch)
        size = min(2 * size, _LARGEST)
    return Outcome(done)

"""Many writes in growing batches.

If the first of a hundred creates is refused (a quota, a bad template), the other ninety-nine would be too: batches of
1, 2, 4, ... stop at the first batch with a failure (Kubernetes' `slowStartBatch`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def slow_start(items: Sequence[T], act: Callable[[T], Awaitable[object]]) -> int:
    """Call `act` on each item, in batches that double; how many succeeded.

    Raises:
        Exception: the first failure of the batch that failed, after the whole batch has ended.
    """
    done, size = 0, 1
    while done < len(items):
        batch = items[done : done + size]
        results = await asyncio.gather(*(act(item) for item in batch), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0]
        done += len(batch)
        size *= 2
    return done

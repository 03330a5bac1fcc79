"""Waiting for an event or for time, whichever is first."""

import asyncio
from typing import Any

from corral.base.clock import Clock


async def wait(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when `event` is set or `seconds` have passed (None: however long)."""
    if event.is_set():
        return
    if seconds is None:
        await event.wait()
        return
    if seconds <= 0:
        return
    waiting: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(event.wait()),
        asyncio.ensure_future(clock.sleep(seconds)),
    ]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

"""Waiting for whichever is first."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from corral.base.clock import Clock


async def first(*works: Awaitable[Any]) -> None:
    """Return when one of `works` has ended; the others are cancelled."""
    waiting = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def wait(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when `event` is set or `seconds` have passed (None: however long)."""
    if event.is_set():
        return
    if seconds is None:
        await event.wait()
    elif seconds > 0:
        await first(event.wait(), clock.sleep(seconds))

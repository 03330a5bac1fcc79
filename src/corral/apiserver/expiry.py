"""Events do not stay for ever: one that was not written for an hour is deleted.

Kubernetes gives its events a lease in etcd (`kube-apiserver --event-ttl`, one hour as shipped). A store here knows no
time, so the API server looks through the events every few minutes. The time of an event's latest write is in it:
whoever records events states when the thing happened last, and the server itself when the event was created.
"""

import asyncio
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import orjson

from corral.apiserver.core import Core, prefix_of
from corral.base.clock import parse_rfc3339
from corral.base.errors import CorralError
from corral.kinds.resources import EVENTS
from corral.kinds.types import Obj
from corral.store.protocol import Entry

log = logging.getLogger(__name__)

EVENT_LIFE = timedelta(hours=1)
_ROUND_SECONDS = 300.0
_PAGE = 500
"""Events looked through before others get their turn, and deletes that become durable together."""


def is_over(event: Obj, now: datetime) -> bool:
    """Whether an event is older than `EVENT_LIFE`."""
    return max(_moments(event, now), default=now - 2 * EVENT_LIFE) <= now - EVENT_LIFE


def _moments(event: Obj, now: datetime) -> Iterator[datetime]:
    """When the event was made and when what it says happened, as far as that can be: clients may write any time."""
    series = event.get("series")
    last_observed = series.get("lastObservedTime") if isinstance(series, dict) else None
    created = event["metadata"].get("creationTimestamp")
    for text in (created, event.get("lastTimestamp"), event.get("eventTime"), last_observed):
        try:
            moment = parse_rfc3339(text) if isinstance(text, str) else None
        except ValueError:
            moment = None
        if moment is not None and moment <= now + EVENT_LIFE:
            yield moment


class EventExpiry:
    """Deletes events whose time is over."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def run(self) -> None:
        """Work until cancelled; a store that cannot be written to is tried again in the next round."""
        while True:
            try:
                await self.expire()
            except CorralError as error:
                log.warning("cannot delete old events, will retry: %s", error.message)
            await self._core.clock.sleep(_ROUND_SECONDS)

    async def expire(self) -> int:
        """Look through all events once; returns how many were deleted.

        Raises:
            CorralError: the store cannot be written to, or forgets history faster than it is read.
        """
        store, now, deleted, after = self._core.store, self._core.now(), 0, ""
        while True:
            page = await store.list(prefix_of(EVENTS), limit=_PAGE, after=after)
            over = [entry for entry in page.entries if is_over(orjson.loads(entry.value), now)]
            # Whoever writes the event at this moment wins: it is not over then.
            outcomes = await asyncio.gather(*(store.delete(entry.key, entry.revision) for entry in over))
            deleted += sum(isinstance(outcome, Entry) for outcome in outcomes)
            if not page.more:
                return deleted
            after = page.entries[-1].key
            await asyncio.sleep(0)

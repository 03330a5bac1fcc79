"""Leader election on a Lease: of several equal processes, one works.

The rules are client-go's: whoever holds the lease renews it every `RETRY` seconds; others take it over when they have
watched it unchanged for its whole duration, by their own clock, because clocks of machines are not believed. A leader
that cannot renew stops its work before others may start theirs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from corral.base.clock import Clock, rfc3339_micro
from corral.client.client import Client
from corral.kinds.resources import LEASES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

DURATION: Final = 15.0
"""Seconds without renewal after which others may lead (client-go's LeaseDuration)."""
DEADLINE: Final = 10.0
"""Seconds without a successful renewal after which a leader gives up (RenewDeadline)."""
RETRY: Final = 2.0
"""Seconds between attempts (RetryPeriod)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A lease as last read, and when we first saw it like that, in monotonic seconds."""

    lease: Obj | None
    at: float


Move = Literal["create", "take", "renew", "wait"]


def decide(seen: Seen, identity: str, now: float) -> Move:
    """What `identity` may do about the lease."""
    if seen.lease is None:
        return "create"
    spec = seen.lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder == identity:
        return "renew"
    expired = now - seen.at >= float(spec.get("leaseDurationSeconds") or DURATION)
    return "take" if not holder or expired else "wait"


def observe(before: Seen | None, lease: Obj | None, now: float) -> Seen:
    """What is known after reading `lease`: an unchanged one has stood since it was first seen."""
    if before is not None and before.lease is not None and lease is not None:
        same = before.lease["metadata"].get("resourceVersion") == lease["metadata"].get("resourceVersion")
        if same:
            return before
    return Seen(lease, now)


def held(lease: Obj | None, name: str, namespace: str, identity: str, now: datetime, duration: float) -> Obj:
    """The lease as `identity` writes it to hold it."""
    before = (lease or {}).get("spec") or {}
    ours = before.get("holderIdentity") == identity
    metadata = dict((lease or {}).get("metadata") or {"name": name, "namespace": namespace})
    moment = rfc3339_micro(now)
    return {
        "kind": "Lease",
        "apiVersion": "coordination.k8s.io/v1",
        "metadata": metadata,
        "spec": {
            **before,
            "holderIdentity": identity,
            "leaseDurationSeconds": int(duration),
            "acquireTime": before.get("acquireTime", moment) if ours else moment,
            "renewTime": moment,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if ours or lease is None else 1),
        },
    }


class LeaderElection:
    """One candidate for one lease.

    Args:
        identity: who we are; it must differ between processes.
    """

    def __init__(
        self, client: Client, name: str, identity: str, clock: Clock, *, namespace: str = "kube-system"
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._seen: Seen | None = None
        self.leading = asyncio.Event()

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Whenever we lead, run `work`; cancel it when we lose the lease. Ends when `work` does, or when cancelled."""
        while True:
            while not await self._try():
                await self._clock.sleep(RETRY)
            logger.info("%s leads %s", self._identity, self._name)
            if await self._work(work):
                return
            logger.warning("%s no longer leads %s", self._identity, self._name)

    async def _work(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run `work` while we can renew; whether it ended by itself."""
        self.leading.set()
        working = asyncio.ensure_future(work())
        renewing = asyncio.ensure_future(self._renew())
        try:
            await asyncio.wait((working, renewing), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return True
            return False
        finally:
            self.leading.clear()
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            await self._release()

    async def _renew(self) -> None:
        """Renew until it fails for too long."""
        renewed = self._clock.monotonic()
        while self._clock.monotonic() - renewed < DEADLINE:
            await self._clock.sleep(RETRY)
            started = self._clock.monotonic()
            if await self._try():
                renewed = started

    async def _try(self) -> bool:
        """Acquire or renew; whether we hold the lease now."""
        now = self._clock.monotonic()
        try:
            self._seen = observe(self._seen, await self._read(), now)
            move = decide(self._seen, self._identity, now)
            if move == "wait":
                return False
            lease = held(self._seen.lease, self._name, self._namespace, self._identity, self._clock.now(), DURATION)
            if move == "create":
                written = await self._client.create(LEASES, lease)
            else:
                written = await self._client.update(LEASES, lease)
        except (StatusError, OSError) as error:
            if not isinstance(error, StatusError) or error.code != 409:
                logger.warning("cannot hold the lease %s: %s", self._name, error)
            return False
        self._seen = Seen(written, now)
        return True

    async def _read(self) -> Obj | None:
        try:
            return await self._client.get(LEASES, self._name, self._namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise

    async def _release(self) -> None:
        """Let others lead at once."""
        lease = self._seen.lease if self._seen is not None else None
        if lease is None or lease["spec"].get("holderIdentity") != self._identity:
            return
        released = {**lease, "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}}
        try:
            await self._client.update(LEASES, released)
        except (StatusError, OSError) as error:
            logger.info("cannot release the lease %s, others must wait for it to end: %s", self._name, error)

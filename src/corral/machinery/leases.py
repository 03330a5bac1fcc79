"""Leader election on a Lease: of several equal processes, one works.

The rules are client-go's: whoever holds the lease renews it again and again; others take it over when they have
watched it unchanged for its whole duration, by their own clock, because clocks of machines are not believed. A leader
that cannot renew stops its work before others may start theirs.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from corral.base.clock import Clock, rfc3339_micro
from corral.client.client import Client
from corral.kinds.resources import LEASES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a lease is believed. Seconds."""

    duration: float = 15.0
    """Without renewal, after which others may lead (client-go's LeaseDuration); whole seconds."""
    deadline: float = 10.0
    """Without a successful renewal, after which a leader gives up (RenewDeadline)."""
    retry: float = 2.0
    """Between attempts (RetryPeriod)."""


CAREFUL: Final = Timing()
QUICK: Final = Timing(duration=1.0, deadline=60.0, retry=0.25)
"""For leaders whose writes the store fences: a lost one is replaced within about 1.5 s, and one that was merely slow
goes on if nobody has taken its place."""


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
    expired = now - seen.at >= float(spec.get("leaseDurationSeconds") or CAREFUL.duration)
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
        self,
        client: Client,
        name: str,
        identity: str,
        clock: Clock,
        *,
        namespace: str = "kube-system",
        timing: Timing = CAREFUL,
    ) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._timing = timing
        self._seen: Seen | None = None

    async def acquire(self) -> None:
        """Return when we lead."""
        while not await self._try():
            await self._clock.sleep(self._timing.retry)
        logger.info("%s leads %s", self._identity, self._name)

    async def hold(self) -> None:
        """Renew; return when the lease is lost. Cancelled, it gives the lease away."""
        renewed = self._clock.monotonic()
        try:
            while self._clock.monotonic() - renewed < self._timing.deadline:
                await self._clock.sleep(self._timing.retry)
                started = self._clock.monotonic()
                if await self._try():
                    renewed = started
                elif self._is_taken():
                    break
            logger.warning("%s no longer leads %s", self._identity, self._name)
        finally:
            await self._release()

    def _is_taken(self) -> bool:
        lease = self._seen.lease if self._seen is not None else None
        return lease is not None and (lease["spec"].get("holderIdentity") or "") not in ("", self._identity)

    async def _try(self) -> bool:
        """Acquire or renew; whether we hold the lease now."""
        now = self._clock.monotonic()
        try:
            self._seen = observe(self._seen, await self._client.find(LEASES, self._name, self._namespace), now)
            move = decide(self._seen, self._identity, now)
            if move == "wait":
                return False
            duration = self._timing.duration
            lease = held(self._seen.lease, self._name, self._namespace, self._identity, self._clock.now(), duration)
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

"""Keeping this machine's Lease, and the fence that hangs on it.

A renewal names the revision of the Lease that it follows, so that one which was lost on its way cannot arrive after a
later one. Its answer brings what the server makes of this machine: its terms, and whether it was missed.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from corral.agent.fence import Fence
from corral.agent.waiting import wait
from corral.base.backoff import Backoff
from corral.base.clock import Clock, rfc3339_micro
from corral.client.api import MERGE_PATCH
from corral.client.client import Client
from corral.kinds.health import FENCED, NO_ROOM, PROMISE, SILENCE, STORE_BROKEN, Terms, annotation, read_terms
from corral.kinds.resources import LEASES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

NAMESPACE: Final = "kube-node-lease"
_ALONE: Final = Terms(renew=10.0, lease=40, fence=0.0, kill=0.0)
"""Until the server says otherwise: the kubelet's own numbers."""
_RETRY: Final = Backoff(initial=0.2, maximum=7.0)
_FIRST: Final = Backoff(initial=0.2, maximum=2.0)
_SOON: Final = 0.1
_SECOND_PATIENCE: Final = 2.0
"""How much longer an attempt may take that follows a failed one. It has a connection to make, and were it given up as
soon as the first, a server that is slow because it has much to do would only get more to do."""
_ACQUAINTED: Final = 10
"""After so many renewals the server has had the time to say its terms, also when it has just started."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What follows from the state of the Lease."""

    missed: Callable[[], None]
    """The server says that it has missed this machine: report everything."""
    shut: Callable[[], None]
    """The fence has shut: kill what yields."""
    reopen: Callable[[], Awaitable[None]]
    """The server hears us again: find out what it still wants here, and open the fence."""
    guard: Callable[[float | None, float | None], None]
    """From now on somebody else must kill what yields after so many seconds, unless told again; None: nobody. The
    second number is how many that would be from a moment on at which the only server moved nothing; None: there are
    several servers."""
    excuse: Callable[[float], None]
    """So many seconds ago the only server, if there is only one, moved nothing."""


class LeaseKeeper:
    """The Lease of machine `name`.

    Args:
        promises: whether this agent shuts its fence, and tells the server so. One that shares its process with the only
            server does not: where it is cut off nobody is left to start anything elsewhere.
    """

    def __init__(self, client: Client, name: str, clock: Clock, fence: Fence, hooks: Hooks, *, promises: bool) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._fence = fence
        self._hooks = hooks
        self._promises = promises
        self._asked: Terms | None = None
        self._lease: Obj | None = None
        self._renewals = 0
        self._changed = asyncio.Event()
        self._looks_at: float | None = None
        self._told = False
        self._failing = False
        self._settled = True

    @property
    def revision(self) -> int:
        """Of the last renewal that the server has acknowledged; 0 before the first."""
        return int(((self._lease or {}).get("metadata") or {}).get("resourceVersion") or 0)

    async def first(self, uid: str) -> None:
        """Return when the server has acknowledged the first renewal; `uid` is the Node's."""
        self._uid = uid
        attempt = 0
        while not (await self._look() and await self._beat()):
            await self._clock.sleep(_FIRST.delay(attempt))
            attempt += 1

    def unheard(self, error: StatusError | OSError, sent: float) -> None:
        """Before the first renewal something that was sent at `sent` failed. The promise of an earlier agent stands."""
        if _moves_nothing(error):
            with contextlib.suppress(OSError):
                self._hooks.excuse(self._clock.monotonic() - sent)

    async def _look(self) -> bool:
        """Read what an earlier agent left; whether the server answered."""
        sent = self._clock.monotonic()
        try:
            self._lease = await self._client.get(LEASES, self._name, NAMESPACE)
            self._asked = read_terms(self._lease)
        except StatusError as error:
            return error.code == 404
        except OSError as error:
            logger.debug("cannot read the lease of node %s, will retry: %s", self._name, error)
            self.unheard(error, sent)
            return False
        return True

    async def run(self) -> None:
        """Renew for ever; a failed renewal is tried again sooner."""
        attempt = 0
        while True:
            every = (self._asked or _ALONE).renew
            if not self._settled:
                pause = _SOON  # what stands on the lease is for the pace of before
            else:
                pause = min(every, 1.0) if self._promises and self._renewals < _ACQUAINTED else every
            await self._clock.sleep(min(pause, _RETRY.delay(attempt - 1)) if attempt else pause)
            attempt = 0 if await self._beat(_SECOND_PATIENCE if attempt else 1.0) else attempt + 1

    async def watch_fence(self) -> None:
        """Tell when the fence shuts, for ever."""
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            shut = self._fence.check(now)
            if shut and not self._told:
                logger.warning("node %s has lost the server: pods that may run elsewhere by now are killed", self._name)
                self._hooks.shut()
            self._told = shut
            left = None if shut else self._fence.left(now)
            self._looks_at = None if left is None else now + left
            await wait(self._changed, self._clock, left)

    async def _beat(self, patience: float = 1.0) -> bool:
        """Renew once and do what follows; whether the server has acknowledged it in time."""
        asked, sent = self._asked or _ALONE, self._clock.monotonic()
        stood = self._fence.left(sent)
        self._fence.offer(self._asked if self._promises else None)
        try:
            if self._fence.left(sent) != stood:
                self._armed()
            async with asyncio.timeout(max(1.0, asked.renew) * patience):
                self._lease = await self._renew(asked)
            await self._renewed(self._lease, sent)
        except (StatusError, OSError) as error:
            self._failed(error, sent)
            return False
        return True

    async def _renewed(self, lease: Obj, sent: float) -> None:
        self._renewals += 1
        self._failing = False
        before, self._asked, silence = self._asked, read_terms(lease), annotation(lease, SILENCE)
        self._settled = before == self._asked
        self._fence.renewed(sent, fenced=silence == FENCED)
        self._armed()
        if silence:
            self._hooks.missed()
        if self._fence.shut and silence != FENCED:
            await self._reopen()

    def _armed(self) -> None:
        """Whoever waits for the fence waits for another moment now; for a later one it is enough to look again then."""
        now = self._clock.monotonic()
        left = self._fence.left(now)
        if self._looks_at is None or self._fence.shut or left is None or now + left < self._looks_at:
            self._changed.set()
        terms = self._asked or _ALONE
        # The agent itself comes first; half of the time that killing may take is left to the other.
        spare = terms.kill / 2
        self._hooks.guard(None if left is None else left + spare, terms.fence + spare if terms.sole else None)

    def _failed(self, error: StatusError | OSError, sent: float) -> None:
        level = logging.DEBUG if self._failing else logging.WARNING
        logger.log(level, "cannot renew the lease of node %s, will retry: %s", self._name, error or "no answer")
        self._failing = True
        sole = self._asked is not None and self._asked.sole
        if sole and _moves_nothing(error) and not self._fence.check(self._clock.monotonic()):
            # When the only server can write again, it waits for us anew.
            self._fence.excused(sent)
            with contextlib.suppress(OSError):
                self._armed()

    async def _reopen(self) -> None:
        try:
            async with asyncio.timeout(max(1.0, (self._asked or _ALONE).renew)):
                await self._hooks.reopen()
            self._told = self._told and self._fence.shut
        except (StatusError, OSError) as error:
            logger.warning("cannot read what node %s is to run, will retry: %s", self._name, error or "no answer")

    async def _renew(self, asked: Terms) -> Obj:
        if self._lease is None:
            try:
                return await self._client.create(LEASES, self._new(asked))
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
            self._lease = await self._client.get(LEASES, self._name, NAMESPACE)
        try:
            return await self._patch(self._lease, asked)
        except StatusError as error:
            if error.code not in (404, 409):
                raise
            self._lease = None
            if error.code == 404:
                return await self._client.create(LEASES, self._new(asked))
        # The server wrote its notes meanwhile, or an attempt of ours came through whose answer was lost.
        self._lease = await self._client.get(LEASES, self._name, NAMESPACE)
        return await self._patch(self._lease, asked)

    async def _patch(self, lease: Obj, asked: Terms) -> Obj:
        metadata = {**self._says(), "resourceVersion": lease["metadata"]["resourceVersion"]}
        patch: Obj = {"metadata": metadata, "spec": self._spec(asked)}
        return await self._client.patch(LEASES, self._name, patch, NAMESPACE, MERGE_PATCH)

    def _new(self, asked: Terms) -> Obj:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._uid}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "spec": self._spec(asked),
        }

    def _spec(self, asked: Terms) -> Obj:
        now = rfc3339_micro(self._clock.now())
        return {"holderIdentity": self._name, "leaseDurationSeconds": asked.lease, "renewTime": now}

    def _says(self) -> Obj:
        promised = self._asked.promise if self._promises and self._asked is not None else None
        return {"annotations": {PROMISE: None if promised is None else f"{promised:g}"}}


def _moves_nothing(error: StatusError | OSError) -> bool:
    """Whether who answers so cannot start anything elsewhere: it does not run, or its disk takes no writes."""
    if isinstance(error, StatusError):
        return error.reason in (NO_ROOM, STORE_BROKEN)
    return error.errno == errno.ECONNREFUSED

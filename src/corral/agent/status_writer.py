"""Writing one pod's status: only what changed, the newest only, again until it is there."""

import asyncio
import logging
from typing import Any

from corral.agent.waiting import wait
from corral.base.backoff import Backoff
from corral.base.clock import Clock
from corral.client.api import STRATEGIC_MERGE_PATCH
from corral.client.client import Client
from corral.kinds import conditions
from corral.kinds.health import SILENT_MACHINE
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

logger = logging.getLogger(__name__)

_RETRY = Backoff(initial=0.1, maximum=10.0)
_FIRST_DELAY = 0.25
"""A pod that is only being prepared is reported after this; most are running by then, and one write is saved."""


class StatusWriter:
    """The status of one pod in the API. `run()` writes until cancelled."""

    def __init__(self, client: Client, clock: Clock, pod: Obj) -> None:
        self._client = client
        self._clock = clock
        metadata = pod["metadata"]
        self._name, self._namespace, self._uid = metadata["name"], metadata.get("namespace", ""), metadata["uid"]
        self._written: Obj = pod.get("status") or {}
        self._wanted: Obj = self._written
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._fresh = not self._written.get("startTime")
        self.lost = False
        """The object is no longer in the API (or is another pod's by now): there is nothing to write to."""

    def publish(self, status: Obj) -> None:
        """From now on `status` is what the API should show."""
        if status == self._wanted:
            return
        self._wanted = status
        self._idle.clear()
        self._wake.set()

    def shown(self, status: Obj) -> None:
        """The API shows `status`. A readiness that was taken away while this machine was silent is written again."""
        present = conditions.get({"status": status}, "Ready") or {}
        if present.get("reason") == SILENT_MACHINE:
            self._written = {**self._written, "conditions": status["conditions"]}
            self._idle.clear()
            self._wake.set()

    async def flush(self) -> None:
        """Return when the API shows the newest status, or there is nothing to write to."""
        self._fresh = False
        self._wake.set()
        await self._idle.wait()

    async def run(self) -> None:
        """Write whatever is published, until cancelled or the object is gone."""
        while not self.lost:
            await self._wake.wait()
            await self._hold_back()
            self._wake.clear()
            await self._write()
            if self._wanted is self._written or self.lost:
                self._idle.set()
        self._idle.set()

    async def _hold_back(self) -> None:
        """Give a pod that has just begun the time to get somewhere."""
        ends = self._clock.monotonic() + _FIRST_DELAY
        while self._fresh and _unremarkable(self._wanted):
            left = ends - self._clock.monotonic()
            if left <= 0:
                break
            self._wake.clear()
            await wait(self._wake, self._clock, left)
        self._fresh = False

    async def _write(self) -> None:
        attempt = 0
        while not self.lost:
            status = self._wanted
            changes = difference(self._written, status)
            if not changes:
                self._written = status
                return
            patch = {"metadata": {"uid": self._uid}, "status": changes}
            try:
                await self._client.patch(
                    PODS, self._name, patch, self._namespace, STRATEGIC_MERGE_PATCH, subresource="status"
                )
                self._written = status
                if self._wanted is status:
                    return
            except StatusError as error:
                if error.code == 404 or (error.code == 409 and "uid" in error.message.lower()):
                    self.lost = True
                    return
                await self._pause(error, attempt)
                attempt += 1
            except OSError as error:
                await self._pause(error, attempt)
                attempt += 1

    async def _pause(self, error: Exception, attempt: int) -> None:
        logger.warning("cannot write the status of pod %s/%s, will retry: %s", self._namespace, self._name, error)
        await self._clock.sleep(_RETRY.delay(attempt))


def _unremarkable(status: Obj) -> bool:
    """Pending, and nothing that has gone wrong."""
    if status.get("phase") != "Pending":
        return False
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waits = [(found.get("state") or {}).get("waiting") or {} for found in containers]
    return all(
        waiting.get("reason") in ("ContainerCreating", "PodInitializing") and not waiting.get("message")
        for waiting in waits
    )


def difference(old: Obj, new: Obj) -> Obj:
    """The strategic merge patch that turns the status `old` into `new`."""
    changes: Obj = {}
    for field in {**old, **new}:
        if old.get(field) == new.get(field):
            continue
        if field not in new:
            changes[field] = None
        elif field == "conditions":
            changes[field] = _changed(old.get(field) or (), new[field])
        elif field in ("podIPs", "hostIPs"):
            changes[field] = [{"$patch": "replace"}, *new[field]]
        else:
            changes[field] = new[field]
    return changes


def _changed(old: Any, new: Any) -> list[Obj]:
    before = {condition["type"]: condition for condition in old}
    changed = []
    for condition in new:
        former = before.get(condition["type"])
        if former != condition:
            dropped = {field: None for field in former or {} if field not in condition}
            changed.append({**condition, **dropped})
    return changed

"""Deletes Jobs whose `ttlSecondsAfterFinished` is over."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from corral.client.informer import Informer
from corral.controllers.jobs.finishing import finished_at
from corral.controllers.pods.pods import is_deleting
from corral.kinds.resources import JOBS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools


def expires_in(job: Obj, now: datetime) -> float | None:
    """Seconds until the Job is to be deleted; None if it is not (yet) known to be."""
    seconds, moment = job["spec"].get("ttlSecondsAfterFinished"), finished_at(job)
    if seconds is None or moment is None or is_deleting(job):
        return None
    return (moment + timedelta(seconds=int(seconds)) - now).total_seconds()


class TtlAfterFinishedController:
    """Clears finished Jobs away in time."""

    name = "ttl-after-finished-controller"
    reads = (JOBS,)
    writes = ("jobs",)

    _tools: Tools
    _jobs: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._jobs = tools.caches.get(JOBS)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Jobs that have a time to live."""
        return [key_of(obj)] if obj["spec"].get("ttlSecondsAfterFinished") is not None else []

    async def reconcile(self, key: Key) -> Result:
        """Delete the Job, or come back when it is time."""
        job = self._jobs.get(key)
        left = expires_in(job, self._tools.clock.now()) if job is not None else None
        if job is None or left is None:
            return Done()
        if left > 0:
            return Requeue(left)
        metadata = job["metadata"]
        try:
            await self._tools.client.delete(
                JOBS,
                metadata["name"],
                metadata["namespace"],
                propagation="Foreground",
                uid=metadata["uid"],
                resource_version=metadata["resourceVersion"],
            )
        except StatusError as error:
            if error.code != 404:
                raise
        return Done()

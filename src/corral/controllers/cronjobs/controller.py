"""Performs what `plan` says."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.cronjobs.plan import Plan, plan
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, owner_name
from corral.kinds.resources import CRON_JOBS, JOBS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.refusals import namespace_ends
from corral.machinery.status import write_status


class CronJobController:
    """Makes Jobs when their time comes."""

    name = "cronjob-controller"
    reads = (CRON_JOBS, JOBS)
    writes = ("jobs", "cronjobs/status")

    _tools: Tools
    _cron_jobs: Informer
    _jobs: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._cron_jobs = tools.caches.get(CRON_JOBS)
        self._jobs = tools.caches.get(JOBS)
        self._jobs.add_index(CONTROLLER_INDEX, controller_index)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A CronJob's own key, or that of a Job's owner."""
        if resource == CRON_JOBS:
            return [key_of(obj)]
        name = owner_name(obj, CRON_JOBS)
        return [Key(obj["metadata"]["namespace"], name)] if name else []

    async def reconcile(self, key: Key) -> Result:
        """One step of the schedule."""
        cron_job = self._cron_jobs.get(key)
        if cron_job is None:
            return Done()
        jobs = self._jobs.index(CONTROLLER_INDEX, cron_job["metadata"]["uid"])
        step = plan(cron_job, jobs, self._tools.clock.now())
        if step.warning is not None:
            self._tools.events.record(cron_job, "Warning", *step.warning)
        await self._delete(cron_job, step.replace)
        if not await self._create(cron_job, step):
            return Done()
        await write_status(self._tools.client, CRON_JOBS, cron_job, step.status)
        await self._delete(cron_job, step.clean_up)
        return Done() if step.look_again is None else Requeue(max(0.001, step.look_again))

    async def _create(self, cron_job: Obj, step: Plan) -> bool:
        """Create the Job that is due; False if the namespace ends."""
        if step.create is None:
            return True
        events = self._tools.events
        try:
            made = await self._tools.client.create(JOBS, step.create)
        except StatusError as error:
            if error.reason == "AlreadyExists":
                # Made before a crash that came ahead of the status.
                return True
            if namespace_ends(error):
                return False
            events.record(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
            raise
        events.record(cron_job, "Normal", "SuccessfulCreate", f"Created job {made['metadata']['name']}")
        return True

    async def _delete(self, cron_job: Obj, jobs: Sequence[Obj]) -> None:
        for job in jobs:
            metadata = job["metadata"]
            try:
                await self._tools.client.delete(
                    JOBS, metadata["name"], metadata["namespace"], propagation="Background", uid=metadata["uid"]
                )
            except StatusError as error:
                if error.code in (404, 409):
                    continue
                raise
            self._tools.events.record(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {metadata['name']}")

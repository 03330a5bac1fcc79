"""Jobs that wait in a queue: suspended until admitted, suspended again when they must make way.

The API server suspends them as they are made (`apiserver/admission/queues.py`). Here each gets a Workload; when that
is admitted, the Job gets the flavors' node labels and tolerations and is resumed; when it is evicted, the Job is
suspended, and once its pods are gone the Workload gives its quota back.
"""

from collections.abc import Iterable

from corral.batch import workloads
from corral.batch.views import is_admitted, is_evicted, is_finished, is_reserving
from corral.client.informer import Informer
from corral.kinds import conditions
from corral.kinds.bundled.queues import queue_name
from corral.kinds.owners import controller_of
from corral.kinds.resources import (
    JOBS,
    PRIORITY_CLASSES,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    WORKLOADS,
)
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Permanent, Result, Tools
from corral.machinery.status import write_status

OWNER_INDEX = "owner"
POD_SET = "main"


def owner_uids(workload: Obj) -> list[str]:
    """An informer's index: Workloads by the uids of their owners."""
    return [reference["uid"] for reference in workload["metadata"].get("ownerReferences") or ()]


class QueuedJobController:
    """Keeps each queued Job and its Workload in step."""

    name = "queued-job-controller"
    reads = (JOBS, WORKLOADS, RESOURCE_FLAVORS, WORKLOAD_PRIORITY_CLASSES, PRIORITY_CLASSES)
    writes = ("jobs", "workloads.kueue.x-k8s.io", "workloads.kueue.x-k8s.io/status")

    _tools: Tools
    _jobs: Informer
    _workloads: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._jobs = tools.caches.get(JOBS)
        self._workloads = tools.caches.get(WORKLOADS)
        self._workloads.add_index(OWNER_INDEX, owner_uids)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A queued Job; a Workload's Job."""
        if resource == JOBS:
            return [key_of(obj)] if queue_name(obj) else []
        if resource == WORKLOADS:
            owner = controller_of(obj)
            if owner is not None and owner["kind"] == "Job":
                return [Key(obj["metadata"]["namespace"], owner["name"])]
        return []

    async def reconcile(self, key: Key) -> Result:
        """One step of the Job."""
        job = self._jobs.get(key)
        if job is None or job["metadata"].get("deletionTimestamp"):
            return Done()
        found = self._workloads.index(OWNER_INDEX, job["metadata"]["uid"])
        workload = found[0] if found else None
        if not queue_name(job):
            return await self._leave(workload)
        if workload is not None and is_finished(workload):
            return Done()
        end = _end(job)
        if end is not None:
            if workload is not None:
                await self._status(workload, workloads.finished(workload, *end, self._tools.clock.now()))
            return Done()
        if workload is None:
            return await self._enter(job)
        if not _is_same(workload, job):
            return await self._renew(job, workload)
        return await self._follow(job, workload)

    async def _leave(self, workload: Obj | None) -> Result:
        """The Job has been taken out of its queue."""
        if workload is not None:
            metadata = workload["metadata"]
            await self._tools.client.delete(WORKLOADS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return Done()

    async def _enter(self, job: Obj) -> Result:
        if not job["spec"].get("suspend"):
            # Its Workload is gone, or it was made before queues were watched over.
            await self._suspend(job, "Missing Workload; unable to restore pod templates")
            return Done()
        template = job["spec"]["template"]
        try:
            priority = workloads.priority_of(
                job,
                template.get("spec") or {},
                lambda name: self._tools.caches.get(WORKLOAD_PRIORITY_CLASSES).get(Key("", name)),
                list(self._tools.caches.get(PRIORITY_CLASSES).items()),
            )
        except LookupError as error:
            self._tools.events.record(job, "Warning", "CreateWorkloadFailed", str(error))
            return Permanent(str(error))
        metadata = job["metadata"]
        name = workloads.name_for("Job", metadata["name"], metadata["uid"])
        made = workloads.new_workload(name, [job], queue_name(job), [_pod_set(job)], priority)
        await self._tools.client.create(WORKLOADS, made)
        self._tools.events.record(job, "Normal", "CreatedWorkload", f"Created Workload: {metadata['namespace']}/{name}")
        return Done()

    async def _renew(self, job: Obj, workload: Obj) -> Result:
        """The Job asks for something else than its Workload: stop it, and let it queue anew."""
        if not job["spec"].get("suspend"):
            await self._suspend(job, "No matching Workload; restoring pod templates according to existent Workload")
        metadata = workload["metadata"]
        await self._tools.client.delete(WORKLOADS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        return Done()

    async def _follow(self, job: Obj, workload: Obj) -> Result:
        now = self._tools.clock.now()
        if is_admitted(workload):
            if job["spec"].get("suspend"):
                await self._start(job, workload)
            elif ended := _ended(job):
                await self._status(workload, workloads.reclaimable(workload, ended))
            return Done()
        if not job["spec"].get("suspend"):
            cause = conditions.get(workload, "Evicted") or {}
            await self._suspend(job, cause.get("message") or "Not admitted by cluster queue")
        elif is_reserving(workload) and is_evicted(workload) and _is_stopped(job):
            await self._status(workload, workloads.released(workload, now))
        return Done()

    async def _start(self, job: Obj, workload: Obj) -> None:
        """Resume the Job on the machines that its quota is for."""
        if (job.get("status") or {}).get("startTime"):
            return  # Its last suspension has not been seen through; the Job's next change comes back here.
        assignment = workload["status"]["admission"]["podSetAssignments"][0]
        flavors = {obj["metadata"]["name"]: obj for obj in self._tools.caches.get(RESOURCE_FLAVORS).items()}
        original = workload["spec"]["podSets"][0]["template"].get("spec") or {}
        template = job["spec"]["template"]
        bound = workloads.bind_template(original, assignment, flavors)
        placed = {name: bound.get(name) for name in ("nodeSelector", "tolerations")}
        kept = {name: value for name, value in template["spec"].items() if name not in placed}
        spec = {**kept, **{name: value for name, value in placed.items() if value}}
        changed = {**job["spec"], "suspend": False, "template": {**template, "spec": spec}}
        await self._tools.client.update(JOBS, {**job, "spec": changed})
        queue = workload["status"]["admission"]["clusterQueue"]
        self._tools.events.record(job, "Normal", "Started", f"Admitted by clusterQueue {queue}")

    async def _suspend(self, job: Obj, why: str) -> None:
        await self._tools.client.update(JOBS, {**job, "spec": {**job["spec"], "suspend": True}})
        self._tools.events.record(job, "Normal", "Stopped", why)

    async def _status(self, workload: Obj, status: Obj) -> None:
        await write_status(self._tools.client, WORKLOADS, workload, status)


def pods_at_once(job: Obj) -> int:
    """How many of a Job's pods run at the same time."""
    spec = job["spec"]
    parallelism = int(spec.get("parallelism", 1))
    completions = spec.get("completions")
    return parallelism if completions is None else min(parallelism, int(completions))


def _pod_set(job: Obj) -> Obj:
    return {"name": POD_SET, "count": pods_at_once(job), "template": job["spec"]["template"]}


def _is_same(workload: Obj, job: Obj) -> bool:
    """Whether a Workload asks for what its Job asks for: placement may differ, it is the queue's to give."""
    pod_set = workload["spec"]["podSets"][0]
    given, wanted = (spec["template"].get("spec") or {} for spec in (pod_set, job["spec"]))
    parts = ("containers", "initContainers", "resources", "overhead")
    return (
        pod_set.get("count") == pods_at_once(job)
        and workload["spec"].get("queueName") == queue_name(job)
        and all(given.get(part) == wanted.get(part) for part in parts)
    )


def _end(job: Obj) -> tuple[str, str] | None:
    """How a Job ended: the reason and message of its Workload's condition."""
    for kind, reason in (("Complete", "Succeeded"), ("Failed", "Failed")):
        if conditions.is_true(job, kind):
            words = (conditions.get(job, kind) or {}).get("message") or ""
            return reason, "Job finished successfully" if kind == "Complete" else words or "Job failed"
    return None


def _is_stopped(job: Obj) -> bool:
    """Whether a suspended Job's last pod is gone."""
    status = job.get("status") or {}
    return conditions.is_true(job, "Suspended") and not status.get("active") and not status.get("terminating")


def _ended(job: Obj) -> dict[str, int]:
    """How many of the pods that have quota are not needed any more, near the Job's end."""
    completions = job["spec"].get("completions")
    if completions is None:
        return {}
    left = int(completions) - int((job.get("status") or {}).get("succeeded") or 0)
    spare = pods_at_once(job) - left
    return {POD_SET: spare} if spare > 0 else {}

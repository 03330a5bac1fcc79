"""Performs what `plan` says."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.jobs.demand import Creation, Failures
from corral.controllers.jobs.plan import Plan, plan
from corral.controllers.jobs.pods import FINALIZER, is_tracked, new_pod
from corral.controllers.pods.batches import Outcome, slow_start
from corral.controllers.pods.claim import adoption_patch, claim, release_patch
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, is_active, orphan_key, owner_name
from corral.kinds.owners import controller_of
from corral.kinds.resources import JOBS, PODS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery import finalizers
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.refusals import namespace_ends
from corral.machinery.status import write_status

_BY_NAME = "job"
_OURS = (None, "kubernetes.io/job-controller")


class JobController:
    """Runs each Job to its end."""

    name = "job-controller"
    reads = (JOBS, PODS)
    writes = ("pods", "jobs/status")

    _tools: Tools
    _jobs: Informer
    _pods: Informer

    def __init__(self) -> None:
        self._failures: dict[Key, tuple[str, Failures]] = {}
        """Failures in a row by Job, with the Job's uid, because a name may come back."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._jobs = tools.caches.get(JOBS)
        self._pods = tools.caches.get(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._pods.add_index(_BY_NAME, _job_names)
        self._jobs.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A Job's own key; a pod's Job, or whoever may adopt it. The empty name stands for tracked pods without one."""
        if resource == JOBS:
            return [key_of(obj)]
        namespace = obj["metadata"]["namespace"]
        if controller_of(obj) is not None:
            name = owner_name(obj, JOBS)
            return [Key(namespace, name)] if name else []
        keys = [key_of(job) for job in self._adopters(obj)]
        return keys or ([Key(namespace, "")] if is_tracked(obj) else [])

    def _adopters(self, pod: Obj) -> list[Obj]:
        labels = pod["metadata"].get("labels") or {}
        return [
            job
            for job in self._jobs.index("namespace", pod["metadata"]["namespace"])
            if LabelSelector.from_object(job["spec"].get("selector")).matches(labels)
        ]

    async def reconcile(self, key: Key) -> Result:
        """One step of the Job."""
        job = self._jobs.get(key)
        await self._let_go(key, job)
        if job is None or job["spec"].get("managedBy") not in _OURS:
            self._failures.pop(key, None)
            return Done()
        uid = job["metadata"]["uid"]
        pods = await self._claimed(job)
        known, failures = self._failures.get(key, (uid, Failures()))
        step = plan(job, pods, failures if known == uid else Failures(), self._tools.clock.now())
        outcome = await self._perform(job, step)
        if outcome.refused is not None and namespace_ends(outcome.refused):
            return Done()
        shortfall = len(step.create) - outcome.done
        status = {**step.status, "active": step.status["active"] - shortfall} if shortfall else step.status
        await write_status(self._tools.client, JOBS, job, status)
        self._remember(key, uid, step.failures)
        for saying in step.say:
            self._tools.events.record(job, saying.type, saying.reason, saying.message)
        settled = await slow_start(step.settle, self._settle)
        refused = outcome.refused or settled.refused
        if refused is not None:
            return Temporary(refused.message)
        return Done() if step.look_again is None else Requeue(max(0.0, step.look_again))

    def _remember(self, key: Key, uid: str, failures: Failures) -> None:
        if failures.number:
            self._failures[key] = (uid, failures)
        else:
            self._failures.pop(key, None)

    async def _let_go(self, key: Key, job: Obj | None) -> None:
        """Take our finalizer off pods whose Job is gone: nobody will count them."""
        uid = job["metadata"]["uid"] if job is not None else None
        for pod in self._pods.index(_BY_NAME, str(key)):
            reference = controller_of(pod)
            if is_tracked(pod) and (reference is None or reference["uid"] != uid):
                if reference is None and self._adopters(pod):
                    continue
                await self._settle(pod)

    async def _claimed(self, job: Obj) -> Sequence[Obj]:
        metadata = job["metadata"]
        claimed = claim(
            job,
            LabelSelector.from_object(job["spec"].get("selector")),
            self._pods.index(CONTROLLER_INDEX, metadata["uid"]),
            self._pods.index(CONTROLLER_INDEX, orphan_key(metadata["namespace"])),
        )
        client, namespace = self._tools.client, metadata["namespace"]
        held = [pod for pod in claimed.held if pod["metadata"]["namespace"] == namespace]
        for pod in claimed.adopt:
            if not is_active(pod):
                continue
            patch = adoption_patch(pod, job)
            patch["metadata"]["finalizers"] = sorted({*(pod["metadata"].get("finalizers") or ()), FINALIZER})
            held.append(await client.patch(PODS, pod["metadata"]["name"], patch, namespace))
        for pod in claimed.release:
            patch = release_patch(pod, job, finalizer=FINALIZER)
            await client.patch(PODS, pod["metadata"]["name"], patch, namespace)
        return held

    async def _perform(self, job: Obj, step: Plan) -> Outcome:
        async def drop(pod: Obj) -> None:
            await self._settle(pod)
            await self._delete(job, pod)

        async def stop(pod: Obj) -> None:
            await self._delete(job, pod)

        async def create(creation: Creation) -> None:
            await self._create(job, creation)

        for pods, act in ((step.drop, drop), (step.stop, stop)):
            outcome = await slow_start(pods, act)
            if outcome.refused is not None:
                raise outcome.refused
        return await slow_start(step.create, create)

    async def _create(self, job: Obj, creation: Creation) -> None:
        events = self._tools.events
        pod = new_pod(job, creation.index, dict(creation.annotations), self._tools.rng)
        try:
            made = await self._tools.client.create(PODS, pod)
        except StatusError as error:
            if not namespace_ends(error):
                events.record(job, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        events.record(job, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, job: Obj, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._tools.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as error:
            if error.code in (404, 409):
                return
            self._tools.events.record(job, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._tools.events.record(job, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")

    async def _settle(self, pod: Obj) -> None:
        await finalizers.remove(self._tools.client, PODS, pod, FINALIZER)


def _job_names(pod: Obj) -> list[str]:
    namespace = pod["metadata"]["namespace"]
    if controller_of(pod) is None:
        return [str(Key(namespace, ""))] if is_tracked(pod) else []
    name = owner_name(pod, JOBS)
    return [str(Key(namespace, name))] if name else []

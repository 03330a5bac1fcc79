"""Performs what `plan` says."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.controllers.jobs.demand import Creation, Failures
from corral.controllers.jobs.groups import own_group
from corral.controllers.jobs.plan import Plan, plan
from corral.controllers.jobs.pods import FINALIZER, is_tracked, new_pod
from corral.controllers.pods.batches import Outcome, slow_start
from corral.controllers.pods.control import PodControl
from corral.controllers.pods.pods import owner_name
from corral.kinds.owners import controller_of
from corral.kinds.resources import JOBS, POD_GROUPS, PODS
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
    reads = (JOBS, PODS, POD_GROUPS)
    writes = ("pods", "jobs/status", "podgroups")

    _tools: Tools
    _jobs: Informer
    _groups: Informer
    _control: PodControl

    def __init__(self) -> None:
        self._failures: dict[Key, tuple[str, Failures]] = {}
        """Failures in a row by Job, with the Job's uid, because a name may come back."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._jobs = tools.caches.get(JOBS)
        self._groups = tools.caches.get(POD_GROUPS)
        self._control = PodControl(tools, JOBS, finalizer=FINALIZER)
        self._control.pods.add_index(_BY_NAME, _job_names)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A Job's own key; a pod's Job, or whoever may adopt it. The empty name stands for tracked pods without one."""
        if resource != PODS:
            # A Job's own PodGroup has the Job's name.
            return [key_of(obj)]
        keys = self._control.owners_of(obj)
        if keys or controller_of(obj) is not None or not is_tracked(obj):
            return keys
        return [Key(obj["metadata"]["namespace"], "")]

    async def reconcile(self, key: Key) -> Result:
        """One step of the Job."""
        job = self._jobs.get(key)
        await self._let_go(key, job)
        if job is None or job["spec"].get("managedBy") not in _OURS:
            self._failures.pop(key, None)
            return Done()
        uid = job["metadata"]["uid"]
        pods = await self._control.claimed(job)
        known, failures = self._failures.get(key, (uid, Failures()))
        await self._ensure_group(job)
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
        for pod in self._control.pods.index(_BY_NAME, str(key)):
            reference = controller_of(pod)
            if is_tracked(pod) and (reference is None or reference["uid"] != uid):
                if reference is None and self._control.adopters(pod):
                    continue
                await self._settle(pod)

    async def _ensure_group(self, job: Obj) -> None:
        group = own_group(job)
        if group is None or self._groups.get(key_of(job)) is not None:
            return
        name = group["metadata"]["name"]
        try:
            await self._tools.client.create(POD_GROUPS, group)
        except StatusError as error:
            if error.reason != "AlreadyExists" and not namespace_ends(error):
                raise
            return
        self._tools.events.record(job, "Normal", "SuccessfulCreate", f"Created pod group: {name}")

    async def _perform(self, job: Obj, step: Plan) -> Outcome:
        async def drop(pod: Obj) -> None:
            await self._settle(pod)
            await self._control.delete(job, pod)

        async def stop(pod: Obj) -> None:
            await self._control.delete(job, pod)

        async def create(creation: Creation) -> None:
            pod = new_pod(job, creation.index, dict(creation.annotations), self._tools.rng)
            await self._control.create(job, pod)

        for pods, act in ((step.drop, drop), (step.stop, stop)):
            outcome = await slow_start(pods, act)
            if outcome.refused is not None:
                raise outcome.refused
        return await slow_start(step.create, create)

    async def _settle(self, pod: Obj) -> None:
        await finalizers.remove(self._tools.client, PODS, pod, FINALIZER)


def _job_names(pod: Obj) -> list[str]:
    namespace = pod["metadata"]["namespace"]
    if controller_of(pod) is None:
        return [str(Key(namespace, ""))] if is_tracked(pod) else []
    name = owner_name(pod, JOBS)
    return [str(Key(namespace, name))] if name else []

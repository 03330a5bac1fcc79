"""One pod's worker: it performs what `podstate.step` says, and feeds back what came of it.

Serial in deciding, parallel in doing: instructions run as tasks of their own, and each result becomes part of what is
observed, upon which the worker decides again. It waits for events and deadlines; an idle pod costs nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from corral.agent import hooks
from corral.agent.announcements import back_offs, field_path, statuses
from corral.agent.env import ConfigError
from corral.agent.operations import Operations, Services, next_sandbox_attempt
from corral.agent.podstate import model
from corral.agent.podstate.model import Failure, ImageSeen, Note, Observed, Step, VolumesSeen
from corral.agent.podstate.step import step
from corral.agent.probes import ContainerProbes, has_probes
from corral.agent.removal import remove
from corral.agent.runtime.api import Container, ContainerState, RuntimeFailure, Sandbox
from corral.agent.status_writer import StatusWriter
from corral.agent.volumes.api import VolumeError
from corral.agent.waiting import wait
from corral.base.backoff import Backoff
from corral.base.errors import CorralError
from corral.client.client import Client
from corral.kinds.podspec import containers as containers_of
from corral.kinds.types import Key, Obj, key_of
from corral.machinery.events import EventRecorder

logger = logging.getLogger(__name__)

_VOLUME_RETRY = Backoff(initial=0.5, maximum=120)
_SANDBOX_RETRY = Backoff(initial=1, maximum=60)
_IMAGE_RETRY = Backoff(initial=10, maximum=300)
_START_RETRY = Backoff(initial=2, maximum=60)
_CONFUSED_SECONDS = 10.0
_REFRESH_SECONDS = 30.0
_MINIMUM_GRACE = 2.0
"""What a container gets after its preStop hook has used up the grace period (the kubelet's constant)."""


class PodWorker:
    """The life of one pod on this machine. `run()` returns when the pod is gone; cancelling it leaves all running."""

    def __init__(
        self,
        pod: Obj,
        services: Services,
        client: Client,
        events: EventRecorder,
        *,
        sandbox: Sandbox | None = None,
        containers: Sequence[Container] = (),
    ) -> None:
        self.pod = pod
        self.key: Key = key_of(pod)
        self.uid: str = pod["metadata"]["uid"]
        self.status: Obj = pod.get("status") or {}
        self._services = services
        self._client = client
        self._events = events
        self._operations = Operations(services)
        self._writer = StatusWriter(client, services.clock, pod)
        self._wake = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._volume_paths: Mapping[str, Path] = {}
        self._stale_volumes = False
        self._refresh_at: datetime | None = None
        self._not_before = services.clock.now()
        self._finished = False
        present = services.layout.pod(self.uid).exists()
        self.seen = Observed(
            sandbox=sandbox,
            sandbox_attempts=next_sandbox_attempt(sandbox) if sandbox else 0,
            volumes=VolumesSeen(present=present),
            containers=tuple(containers),
            probes=_probed_before(self.status, containers),
        )
        for container in containers:
            self._note_end(container)

    # What others tell.

    def update(self, pod: Obj) -> None:
        """The object in the API has changed."""
        if pod["metadata"].get("resourceVersion") != self.pod["metadata"].get("resourceVersion"):
            fields_changed = pod["metadata"].get("labels") != self.pod["metadata"].get("labels") or (
                pod["metadata"].get("annotations") != self.pod["metadata"].get("annotations")
            )
            self._stale_volumes = self._stale_volumes or fields_changed
        self.pod = pod
        self._writer.shown(pod.get("status") or {})
        self._wake.set()

    def gone(self, last: Obj) -> None:
        """The object is no longer in the API; its last state says how much grace containers get."""
        self.pod = last
        self._see(gone=True)

    def reject(self, reason: str, message: str) -> None:
        """The machine does not take the pod."""
        self._see(rejected=model.Rejection(reason, message))
        self._tell("Warning", reason, message)

    def evict(self, rejection: model.Rejection) -> None:
        """The machine can keep the pod no longer."""
        self._see(rejected=rejection)
        self._tell("Warning", rejection.reason, rejection.message)

    def clear(self) -> None:
        """What the pod, once ended, has on the machine is wanted no more: there is no room for it."""
        if not self.seen.unwanted:
            self._see(unwanted=True)

    def fence(self, shut: bool) -> None:
        """Whether the pod may run elsewhere by now: kill what runs of it and start nothing."""
        if shut != self.seen.fenced:
            self._see(fenced=shut)

    def ended(self, container: Container) -> None:
        """A container of the pod has ended."""
        self._put(container)

    def objects_changed(self) -> None:
        """Something that the pod's volumes or environment show has changed: retry what waits for it."""
        now = self._services.clock.now()
        self._stale_volumes = True
        failure = self.seen.volumes.failure
        self._see(
            volumes=replace(self.seen.volumes, failure=replace(failure, retry_at=now) if failure else None),
            start_failures={name: replace(found, retry_at=now) for name, found in self.seen.start_failures.items()},
        )

    def container(self, name: str, *, previous: bool = False) -> Container | None:
        """The newest run of a container that the runtime knows, or the one before it."""
        runs = sorted((run for run in self.seen.containers if run.name == name), key=lambda run: run.attempt)
        position = -2 if previous else -1
        return runs[position] if len(runs) >= -position else None

    def end_of(self, container_id: str) -> asyncio.Event:
        """Set when the run has ended."""
        event = self._ends.setdefault(container_id, asyncio.Event())
        if any(run.id == container_id and run.state is ContainerState.EXITED for run in self.seen.containers):
            event.set()
        return event

    def forget(self, container_ids: set[str]) -> None:
        """Dead containers were removed from the runtime."""
        self._see(containers=tuple(found for found in self.seen.containers if found.id not in container_ids))

    # The loop.

    async def run(self) -> None:
        """Live the pod's life."""
        writing = asyncio.create_task(self._writer.run(), name=f"status of {self.key}")
        try:
            while not self._finished:
                self._wake.clear()
                wake_at = self._decide()
                if not self._finished:
                    await wait(self._wake, self._services.clock, self._seconds_until(wake_at))
        finally:
            tasks = [*self._tasks.values(), *self._probes.values(), writing]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _decide(self) -> datetime | None:
        now = self._services.clock.now()
        try:
            found = step(self.pod, self.seen, self.status, now, host_addresses=self._services.machine.addresses)
        except model.IllegalObservation as error:
            logger.error("cannot decide about pod %s: %s", self.key, error)
            self._tell("Warning", "FailedSync", f"Error syncing pod: {error}")
            self._start("resync", self._resync())
            return now + timedelta(seconds=_CONFUSED_SECONDS)
        for told in back_offs(self.pod, self.status, found.status):
            self._tell(*told)
        self.status = found.status
        self._writer.publish(found.status)
        self._drop_what_nobody_waits_for()
        for instruction in found.instructions:
            self._perform(instruction)
        self._refresh_volumes(now)
        self._tend_probes()
        return self._earliest(found, self._refresh_at)

    def _earliest(self, found: Step, other: datetime | None) -> datetime | None:
        moments = [moment for moment in (found.wake_at, other) if moment is not None]
        return min(moments, default=None)

    def _seconds_until(self, moment: datetime | None) -> float | None:
        if moment is None:
            return None
        return max(0.001, (moment - self._services.clock.now()).total_seconds())

    def _perform(self, instruction: model.Instruction) -> None:
        match instruction:
            case model.PrepareVolumes():
                self._see(quiet=True, volumes=replace(self.seen.volumes, present=True))
                self._start(model.VOLUMES, self._prepare_volumes())
            case model.EnsureImage(name=name):
                self._start(model.image_key(name), self._ensure_image(instruction))
            case model.CreateSandbox():
                self._see(quiet=True, volumes=replace(self.seen.volumes, present=True))
                self._start(model.SANDBOX, self._create_sandbox(instruction))
            case model.StartContainer(name=name):
                self._start(model.start_key(name), self._start_container(instruction))
            case model.KillContainer():
                self._kill(instruction)
            case model.RemoveContainer(name=name):
                self._start(model.start_key(name), self._remove_container(instruction))
            case model.RemoveSandbox():
                self._start(model.SANDBOX, self._remove_sandbox(instruction))
            case model.TeardownVolumes():
                self._start("teardown", self._teardown())
            case model.FinishPod():
                self._start("finish", self._finish())

    def _start(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        if key in self._tasks:
            work.close()
            return
        self._see(quiet=True, busy=self.seen.busy | {key})
        task = asyncio.create_task(work, name=f"{key} of pod {self.key}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s failed", task.get_name(), exc_info=task.exception())
            # Tried again at once it might fail at once, for ever, and take the time of all other pods.
            pause = asyncio.create_task(self._services.clock.sleep(_CONFUSED_SECONDS), name=task.get_name())
            self._tasks[key] = pause
            pause.add_done_callback(lambda done: self._done(key, done))
            return
        self._tasks.pop(key, None)
        self._see(busy=self.seen.busy - {key})

    def _drop_what_nobody_waits_for(self) -> None:
        """A pod that is deleted does not wait for its images and volumes to come."""
        if self.seen.gone or self.pod["metadata"].get("deletionTimestamp"):
            for key, task in self._tasks.items():
                if key == model.VOLUMES or key.startswith("image/"):
                    task.cancel()

    # Observations.

    def _see(self, *, quiet: bool = False, **changes: Any) -> None:
        self.seen = replace(self.seen, **changes)
        if not quiet:
            self._wake.set()

    def _put(self, container: Container) -> None:
        """Take in a container's newest state; an end is never taken back."""
        known = next((found for found in self.seen.containers if found.id == container.id), None)
        if known is not None and known.state is ContainerState.EXITED:
            return
        others = tuple(found for found in self.seen.containers if found.id != container.id)
        self._see(containers=(*others, container))
        self._note_end(container)

    def _note_end(self, container: Container) -> None:
        if container.state is not ContainerState.EXITED or container.id in self.seen.notes:
            return
        spec = self._spec(container.name)
        if spec is not None:
            note = self._operations.last_words(self.pod, spec, container)
            self._see(notes={**self.seen.notes, container.id: note})
        if container.id in self._ends:
            self._ends.pop(container.id).set()
        for task in (self._probes.pop(container.id, None), self._tasks.get(f"hook/{container.id}")):
            if task is not None:
                task.cancel()

    def _spec(self, name: str) -> Obj | None:
        return next((spec for spec in containers_of(self.pod) if spec["name"] == name), None)

    def _failure(self, before: Failure | None, reason: str, message: str, backoff: Backoff) -> Failure:
        now = self._services.clock.now()
        count = before.count + 1 if before else 1
        return Failure(reason, message, now, now + timedelta(seconds=backoff.delay(count - 1)), count)

    # Instructions.

    async def _prepare_volumes(self) -> None:
        before = self.seen.volumes.failure
        try:
            around = self._operations.around(self.pod, self.seen.sandbox)
            self._volume_paths = await self._services.volumes.prepare(self.pod, around)
        except (VolumeError, OSError) as error:
            message, remedy = (error.message, error.remedy) if isinstance(error, VolumeError) else (str(error), "")
            self._tell("Warning", "FailedMount", message + (f" ({remedy})" if remedy else ""))
            failure = self._failure(before, "FailedMount", message, _VOLUME_RETRY)
            self._see(volumes=VolumesSeen(False, failure, True))
            return
        self._stale_volumes = False
        self._see(volumes=VolumesSeen(True, None, True))

    async def _ensure_image(self, asked: model.EnsureImage) -> None:
        spec = self._spec(asked.name)
        if spec is None:
            return
        before = self.seen.images.get(asked.name)
        path = field_path(self.pod, asked.name)
        try:
            image = await self._services.images.ensure(
                self.pod, spec, lambda type_, reason, message: self._tell(type_, reason, message, path)
            )
            seen = ImageSeen(asked.attempt, image.id)
        except (CorralError, OSError) as error:
            reason = error.reason if isinstance(error, RuntimeFailure) else "ErrImagePull"
            message = error.message if isinstance(error, CorralError) else str(error)
            self._tell("Warning", "Failed", f'Failed to pull image "{spec.get("image", "")}": {message}', path)
            self._tell("Warning", "Failed", f"Error: {reason}", path)
            failure = self._failure(before.failure if before else None, reason, message, _IMAGE_RETRY)
            seen = ImageSeen(asked.attempt, "", failure)
        self._see(images={**self.seen.images, asked.name: seen})

    async def _create_sandbox(self, asked: model.CreateSandbox) -> None:
        try:
            sandbox = await self._operations.create_sandbox(self.pod, asked.attempt)
        except (CorralError, OSError) as error:
            message = error.message if isinstance(error, CorralError) else str(error)
            self._tell("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {message}")
            failure = self._failure(self.seen.sandbox_failure, "FailedCreatePodSandBox", message, _SANDBOX_RETRY)
            self._see(sandbox_failure=failure)
            return
        self._see(sandbox=sandbox, sandbox_attempts=asked.attempt + 1, sandbox_failure=None)

    async def _start_container(self, asked: model.StartContainer) -> None:
        spec, sandbox = self._spec(asked.name), self.seen.sandbox
        if spec is None or sandbox is None:
            return
        path = field_path(self.pod, asked.name)
        try:
            wanted = await self._operations.container_spec(
                self.pod, spec, asked, sandbox, self._volume_paths, self._target_of(spec)
            )
            created = await self._services.runtime.create_container(wanted)
        except (CorralError, OSError) as error:
            self._could_not_create(asked, error, path)
            self._see(sandbox=await self._operations.look_at(sandbox))
            return
        self._tell("Normal", "Created", f"Created container: {asked.name}", path)
        if self.seen.fenced:
            self._put(created)
            return
        try:
            container = await self._services.runtime.start_container(wanted.id)
        except (CorralError, OSError) as error:
            await self._could_not_start(asked, wanted.id, error, path)
            return
        self._began(asked, container, waits=hooks.has_post_start(spec))
        self._tell("Normal", "Started", f"Started container {asked.name}", path)

    def _began(self, asked: model.StartContainer, container: Container, *, waits: bool) -> None:
        failures = {name: found for name, found in self.seen.start_failures.items() if name != asked.name}
        self._see(start_failures=failures, streaks={**self.seen.streaks, asked.name: asked.streak})
        if waits:
            self._see(hooks=self.seen.hooks | {container.id})
            self._start(f"hook/{container.id}", self._post_start(asked.name, container))
        self._put(container)

    def _could_not_create(self, asked: model.StartContainer, error: Exception, path: str) -> None:
        reason = "CreateContainerConfigError" if isinstance(error, ConfigError) else "CreateContainerError"
        if isinstance(error, RuntimeFailure):
            reason = error.reason
        message = error.message if isinstance(error, CorralError) else str(error)
        self._tell("Warning", "Failed", f"Error: {message}", path)
        failure = self._failure(self.seen.start_failures.get(asked.name), reason, message, _START_RETRY)
        self._see(start_failures={**self.seen.start_failures, asked.name: failure})

    async def _could_not_start(self, asked: model.StartContainer, id_: str, error: Exception, path: str) -> None:
        """A start that fails is a run that ended: exit code 128, reason StartError (containerd's words)."""
        message = error.message if isinstance(error, CorralError) else str(error)
        self._tell("Warning", "Failed", f"Error: {message}", path)
        found = await self._operations.find(id_)
        now = self._services.clock.now()
        if found is None or found.state is not ContainerState.EXITED:
            sandbox = self.seen.sandbox
            found = Container(
                id_,
                sandbox.id if sandbox else "",
                asked.name,
                asked.attempt,
                asked.image_id,
                ContainerState.EXITED,
                now,
            )
        ended = replace(
            found,
            exit_code=128 if found.exit_code is None else found.exit_code,
            finished=found.finished or now,
            started=found.started or now,
        )
        self._see(
            notes={**self.seen.notes, id_: Note("StartError", message)},
            streaks={**self.seen.streaks, asked.name: asked.streak},
            start_failures={name: seen for name, seen in self.seen.start_failures.items() if name != asked.name},
        )
        self._put(ended)

    def _target_of(self, spec: Obj) -> str:
        """The container whose processes an ephemeral one is to see."""
        target = self.container(spec.get("targetContainerName") or "")
        return target.id if target else ""

    async def _post_start(self, name: str, container: Container) -> None:
        spec = self._spec(name)
        if spec is not None:
            target = self._operations.target(self.pod, spec, container.id, self.seen.sandbox)
            outcome = await hooks.post_start(self._services.actions, target)
            if not outcome.ok:
                said = f"PostStartHook failed: {outcome.message}"
                self._tell("Warning", "FailedPostStartHook", said, field_path(self.pod, name))
                self._condemn(container.id, model.Condemned("FailedPostStartHook"))
                return
        self._see(hooks=self.seen.hooks - {container.id})

    def _condemn(self, container_id: str, doom: model.Condemned) -> None:
        self._see(condemned={**self.seen.condemned, container_id: doom})

    def _kill(self, asked: model.KillContainer) -> None:
        ends = self._services.clock.now() + timedelta(seconds=asked.grace)
        again = asked.id in self.seen.killing
        self._see(quiet=True, killing={**self.seen.killing, asked.id: ends})
        if not again:
            self._tell("Normal", "Killing", asked.message, field_path(self.pod, asked.name))
        # A second kill has less grace: it runs beside the first, whose wait ends with the container.
        self._start(f"kill/{asked.id}/{asked.grace}", self._stop_container(asked, hook=not again))

    async def _stop_container(self, asked: model.KillContainer, *, hook: bool) -> None:
        clock, began = self._services.clock, self._services.clock.monotonic()
        spec = self._spec(asked.name)
        if hook and spec is not None and (spec.get("lifecycle") or {}).get("preStop"):
            target = self._operations.target(self.pod, spec, asked.id, self.seen.sandbox)
            outcome = await hooks.pre_stop(self._services.actions, target, asked.grace)
            if not outcome.ok:
                said = f"PreStopHook failed: {outcome.message}"
                self._tell("Warning", "FailedPreStopHook", said, field_path(self.pod, asked.name))
        left = asked.grace - (clock.monotonic() - began)
        try:
            await self._services.runtime.stop_container(asked.id, max(left, _MINIMUM_GRACE if asked.grace else 0.0))
        except (CorralError, OSError) as error:
            self._tell("Warning", "FailedKillPod", f"error killing container {asked.name}: {error}")
            await clock.sleep(_SANDBOX_RETRY.delay(2))
        found = await self._operations.find(asked.id)
        if found is not None and found.state is ContainerState.EXITED:
            self._put(found)
        elif found is None:
            self._see(containers=tuple(run for run in self.seen.containers if run.id != asked.id))
        else:
            self._see(killing={id_: ends for id_, ends in self.seen.killing.items() if id_ != asked.id})

    async def _remove_container(self, asked: model.RemoveContainer) -> None:
        await self._services.runtime.remove_container(asked.id)
        self._see(containers=tuple(found for found in self.seen.containers if found.id != asked.id))

    async def _remove_sandbox(self, asked: model.RemoveSandbox) -> None:
        try:
            await self._services.runtime.remove_sandbox(asked.id)
        except (CorralError, OSError) as error:
            message = error.message if isinstance(error, CorralError) else str(error)
            self._tell("Warning", "FailedKillPod", f"error killing pod: {message}")
            failure = self._failure(self.seen.sandbox_failure, "FailedKillPod", message, _SANDBOX_RETRY)
            self._see(sandbox_failure=failure)
            return
        for event in self._ends.values():
            event.set()
        self._see(sandbox=None, sandbox_failure=None, containers=(), killing={}, condemned={}, hooks=frozenset())

    async def _teardown(self) -> None:
        try:
            await self._operations.teardown(self.pod)
        except (CorralError, OSError) as error:
            self._tell("Warning", "FailedUnMount", str(error))
            await self._services.clock.sleep(_SANDBOX_RETRY.delay(2))
            return
        self._see(volumes=VolumesSeen())

    async def _finish(self) -> None:
        """Report the end, then take the object out of the API, if it is still the same one."""
        if not self.seen.gone:
            await remove(self._client, self._services.clock, self.key, self.uid, self._writer, lambda: self.seen.gone)
        self._finished = True

    async def _resync(self) -> None:
        """Look at the runtime anew, after something that cannot be."""
        await self._services.clock.sleep(_CONFUSED_SECONDS / 2)
        everyone = await self._services.runtime.containers()
        mine = self.seen.sandbox.id if self.seen.sandbox else ""
        self._see(containers=tuple(found for found in everyone if found.sandbox_id == mine))

    # Volumes and probes.

    def _refresh_volumes(self, now: datetime) -> None:
        """Let volumes show what has changed, and renew tokens in time."""
        if not self.seen.volumes.ready or self.status.get("phase") in ("Succeeded", "Failed"):
            self._refresh_at = None
            return
        due = self._services.tokens.refresh_at(self.uid)
        if due is not None:
            due = max(due, self._not_before)
        if self._stale_volumes or (due is not None and due <= now):
            self._stale_volumes = False
            # A refresh that fails is tried again after a while, not at once.
            self._not_before = due = now + timedelta(seconds=_REFRESH_SECONDS)
            self._start("refresh", self._refresh())
        self._refresh_at = due

    async def _refresh(self) -> None:
        try:
            around = self._operations.around(self.pod, self.seen.sandbox)
            await self._services.volumes.refresh(self.pod, around)
        except VolumeError as error:
            self._tell("Warning", "FailedMount", error.message)

    def _tend_probes(self) -> None:
        """Probe every running container that wants it, and no other."""
        for container in self.seen.containers:
            spec = self._spec(container.name)
            running = container.state is ContainerState.RUNNING and container.id not in self.seen.hooks
            if not running or spec is None or not has_probes(spec) or container.id in self._probes:
                continue
            if container.id in self.seen.killing or container.id in self.seen.condemned:
                continue
            path = field_path(self.pod, container.name)
            probes = ContainerProbes(
                self._operations.target(self.pod, spec, container.id, self.seen.sandbox),
                self._services.actions,
                self._services.clock,
                report=self._probed,
                condemn=self._condemn,
                tell=self._teller(path),
                before=self.seen.probes.get(container.id),
            )
            self._see(quiet=True, probes={**self.seen.probes, container.id: probes.seen})
            task = asyncio.create_task(probes.run(), name=f"probes of {container.name} in pod {self.key}")
            task.add_done_callback(_log_failure)
            self._probes[container.id] = task
        for container_id in self.seen.killing:
            if container_id in self._probes:
                self._probes[container_id].cancel()

    def _probed(self, container_id: str, seen: model.ProbeSeen) -> None:
        self._see(probes={**self.seen.probes, container_id: seen})

    # Events.

    def _tell(self, type_: str, reason: str, message: str, path: str = "") -> None:
        self._events.record(self.pod, type_, reason, message, field_path=path)

    def _teller(self, path: str) -> Callable[[str, str, str], None]:
        return lambda type_, reason, message: self._tell(type_, reason, message, path)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("%s failed", task.get_name(), exc_info=task.exception())


def _probed_before(status: Obj, containers: Sequence[Container]) -> dict[str, model.ProbeSeen]:
    """What probes said before the agent restarted, for containers that have run on."""
    running = {found.id for found in containers if found.state is ContainerState.RUNNING}
    return {
        container_id: model.ProbeSeen(bool(found.get("started")), bool(found.get("ready")))
        for found in statuses(status)
        if (container_id := str(found.get("containerID") or "").rpartition("//")[2]) in running
    }

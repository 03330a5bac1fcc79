"""Attending a running job: its pod's phases with their timings, its output, its end."""

import asyncio
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from corral.base.errors import CorralError
from corral.cli import attach, programs, terminal
from corral.cli.session import Session
from corral.kinds.bundled.queues import queue_name
from corral.kinds.resources import EVENTS, JOBS, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_HOPELESS = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}
_IMAGE_TROUBLE = {"ErrImagePull", "ImagePullBackOff"}


class NeverStarts(CorralError):
    """Nothing but another command line would make the program start."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended: the exit code, and the last pod (None if it is gone)."""

    code: int
    pod: Obj | None


class Attention:
    """Follows one job from its creation to its end, and streams its output."""

    def __init__(
        self,
        session: Session,
        name: str,
        submitted: float,
        note: Callable[[str], None],
        stdin: bool,
        tty: bool,
    ) -> None:
        self._session = session
        self._name = name
        self._submitted = submitted
        self._note = note
        self._stdin = stdin
        self._tty = tty
        self._bound = 0.0
        self._running = 0.0
        self._said = ""
        self._output: asyncio.Task[None] | None = None
        self._left: set[str] = set()
        """Uids of pods that had to make way in their queue; the program runs again in another."""

    async def run(self) -> Outcome:
        """Watch until the container has ended and all of its output is written.

        Raises:
            NeverStarts: its image or configuration cannot be had.
            CorralError: it ended without running, or somebody else stopped it.
        """
        try:
            pod = await self._watch()
            while await self._made_way(pod):
                pod = await self._watch()
        except BaseException:
            if self._output is not None:
                self._output.cancel()
            raise
        ended = programs.terminated(pod)
        if ended is None:
            status = pod.get("status", {})
            raise CorralError(
                f"cannot run {self._name}: its pod ended without running: "
                f"{status.get('reason', status.get('phase'))} {status.get('message', '')}".rstrip(),
                f"see `corral why {self._name}`",
            )
        finished = time.monotonic()
        if self._output is None:
            self._start_output(pod)
        if self._output is not None:
            await self._output
        await self._say_phases(pod, finished)
        code = programs.exit_code(ended)
        if ended.get("reason") == "OOMKilled":
            self._note(f"{self._name} used more memory than its limit and was killed; give it more with --memory")
        elif code in (126, 127) and ended.get("message"):
            terminal.error(CorralError(f"cannot run {self._name}: {ended['message']}"))
        return Outcome(code, pod)

    async def _watch(self) -> Obj:
        selector = f"batch.kubernetes.io/job-name={self._name}"
        client, namespace = self._session.client, self._session.namespace
        while True:
            listing = await client.list(PODS, namespace, label_selector=selector)
            for pod in listing["items"]:
                found: Obj = pod
                if self._look(found):
                    return found
            revision = listing["metadata"]["resourceVersion"]
            async with client.watch(
                PODS, namespace, label_selector=selector, resource_version=revision, timeout=30
            ) as events:
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED", "DELETED") and self._look(event.object):
                        return dict(event.object)
                    if event.type == "ERROR":
                        break
            await self._still_there()

    async def _made_way(self, pod: Obj) -> bool:
        """Whether the pod was stopped for a more important program, so that ours waits in its queue again."""
        metadata = pod["metadata"]
        if not metadata.get("deletionTimestamp"):
            return False
        job = await self._session.client.get(JOBS, self._name, self._session.namespace)
        if not queue_name(job) or not job["spec"].get("suspend"):
            return False
        self._left.add(metadata["uid"])
        if self._output is not None:
            await self._output
        self._output, self._bound, self._running = None, 0.0, 0.0
        name = queue_name(job)
        self._note(f"{self._name} had to make way and waits in queue {name} again (corral queue job/{self._name})")
        return True

    async def _still_there(self) -> None:
        try:
            await self._session.client.get(JOBS, self._name, self._session.namespace)
        except StatusError as error:
            if error.reason == "NotFound":
                raise CorralError(f"{self._name} was stopped by somebody else") from error
            raise

    def _look(self, pod: Obj) -> bool:
        """Take in a pod as it is now; True when its program has ended."""
        if pod["metadata"]["uid"] in self._left:
            return False
        now = time.monotonic()
        node = pod["spec"].get("nodeName", "")
        status = pod.get("status", {})
        if node and not self._bound:
            self._bound = now
        if not node:
            self._say_unscheduled(status)
        waiting = programs.waiting(pod)
        reason = waiting.get("reason", "")
        if reason in _HOPELESS:
            raise NeverStarts(f"cannot run {self._name}: {reason}: {waiting.get('message', '')}")
        if reason in _IMAGE_TROUBLE and waiting.get("message"):
            remedy = "check the image's name and that this cell reaches its registry, or `corral image load` it"
            raise NeverStarts(f"cannot run {self._name}: {waiting['message']}", remedy)
        state = programs.container_status(pod).get("state", {})
        if ("running" in state or "terminated" in state) and not self._running:
            self._running = now
        if "running" in state and self._output is None:
            self._start_output(pod)
        return "terminated" in state or status.get("phase") in ("Succeeded", "Failed")

    def _say_unscheduled(self, status: Obj) -> None:
        for condition in status.get("conditions") or ():
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                message = condition.get("message", "")
                if message and message != self._said:
                    self._said = message
                    self._note(f"waiting for a machine: {message} (corral why {self._name})")

    def _start_output(self, pod: Obj) -> None:
        name = pod["metadata"]["name"]
        if self._stdin and programs.terminated(pod) is None:
            work = attach.attach(self._session, name, programs.CONTAINER, stdin=True, tty=self._tty)
        else:
            work = stream_logs(self._session, name, programs.CONTAINER)
        self._output = asyncio.create_task(work, name="output")

    async def _say_phases(self, pod: Obj, finished: float) -> None:
        """One line: where it ran and how long each phase took."""
        if not (self._bound and self._running):
            return
        image = await self._image_seconds(pod)
        start = max(0.0, self._running - self._bound - image)
        self._note(
            f"{self._name} ran on machine {pod['spec']['nodeName']}: "
            f"queue {terminal.duration(self._bound - self._submitted)}, image {terminal.duration(image)}, "
            f"start {terminal.duration(start)}, run {terminal.duration(finished - self._running)}"
        )

    async def _image_seconds(self, pod: Obj) -> float:
        """How long the pull took, from the `Pulled` event's message (`... in 1.2s`); 0 when the image was there."""
        selector = f"involvedObject.name={pod['metadata']['name']},reason=Pulled"
        listing = await self._session.client.list(EVENTS, self._session.namespace, field_selector=selector)
        for event in listing["items"]:
            seconds = pull_seconds(event.get("message", ""))
            if seconds:
                return seconds
        return 0.0


def pull_seconds(message: str) -> float:
    """The pull time in a kubelet-style message (`... in 1m2.5s (...)`), in seconds; 0 if there is none."""
    found = re.search(r" in (?:(\d+)m)?([\d.]+)(ms|s)\b", message)
    if found is None:
        return 0.0
    minutes, value, unit = found.groups()
    return 60 * int(minutes or 0) + float(value) / (1000 if unit == "ms" else 1)


async def stream_logs(session: Session, pod: str, container: str) -> None:
    """Write a container's output as it comes, standard output and standard error each to its own."""
    path = PODS.path(session.namespace, pod, "log")

    async def one(stream: str, target: int) -> None:
        query = {"container": container, "follow": "true", "stream": stream}
        async with session.open(path, query) as response:
            async for chunk in response.content.iter_any():
                await asyncio.to_thread(terminal.write_all, target, chunk)

    async with asyncio.TaskGroup() as group:
        group.create_task(one("Stdout", sys.stdout.fileno()))
        group.create_task(one("Stderr", sys.stderr.fileno()))

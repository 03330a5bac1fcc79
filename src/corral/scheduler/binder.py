"""Makes decisions true: bindings, conditions and events, many at once and never in the way of the next decision.

Bindings come first: an event costs the server as much as a binding does. That pods were bound is told when no binding
is under way; if that never happens, a few at a time every two seconds.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.base.clock import Clock, rfc3339
from corral.client.api import STRATEGIC_MERGE_PATCH
from corral.client.client import Client
from corral.kinds import conditions
from corral.kinds.accelerators import DEVICES_ANNOTATION, devices_text
from corral.kinds.podgroups import gang_of
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, key_of
from corral.machinery.events import EventRecorder

_log = logging.getLogger(__name__)

_BINDINGS_AT_ONCE = 256
_REPORTS_AT_ONCE = 4
_LONGEST_SILENCE = 2.0
_ANNOUNCED_AT_ONCE = 20
# Beyond this the oldest news are dropped: the pods themselves say where they are.
_NEWS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a binding ended."""

    key: Key
    uid: str
    bound: bool


class Binder:
    """Writes what the scheduler decided. `done` is called with the outcome of each binding."""

    def __init__(
        self,
        client: Client,
        recorder: EventRecorder,
        clock: Clock,
        done: Callable[[Outcome], None],
        *,
        component: str = "default-scheduler",
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._component = component
        self._done = done
        self._bindings = asyncio.Semaphore(_BINDINGS_AT_ONCE)
        self._reports = asyncio.Semaphore(_REPORTS_AT_ONCE)
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._bound: deque[tuple[Obj, str]] = deque(maxlen=_NEWS_KEPT)
        self._news = asyncio.Event()

    async def bind(self, pod: Obj, node: str, devices: Sequence[int] = ()) -> None:
        """Bind `pod` to `node`, where it gets those GPUs."""
        self._under_way += 1
        self._quiet.clear()
        try:
            async with self._bindings:
                outcome = await self._bind(pod, node, devices)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
        if outcome.bound:
            self._bound.append((pod, node))
            self._news.set()
        self._done(outcome)

    async def _bind(self, pod: Obj, node: str, devices: Sequence[int]) -> Outcome:
        key, uid = key_of(pod), pod["metadata"].get("uid", "")
        metadata: Obj = {"name": key.name, "namespace": key.namespace, "uid": uid}
        if devices:
            metadata["annotations"] = {DEVICES_ANNOTATION: devices_text(devices)}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {field: value for field, value in metadata.items() if value},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            await self._client.create_subresource(PODS, key.name, key.namespace, "binding", body)
        except StatusError as error:
            # 404: the pod is gone; 409: it is bound already or is another one by now. The informer will tell.
            level = logging.DEBUG if error.code in (404, 409) else logging.WARNING
            _log.log(level, "cannot bind %s to %s: %s", key, node, error.message)
            return Outcome(key, uid, bound=False)
        except OSError as error:
            _log.warning("cannot bind %s to %s: %s", key, node, error)
            return Outcome(key, uid, bound=False)
        return Outcome(key, uid, bound=True)

    async def preempt(self, pod: Obj, node: str, victims: Sequence[Obj], message: str) -> None:
        """Make `victims` go, each with its own grace, and say that `pod` waits for their room on `node`."""
        await self.report(pod, message, nominated=node)
        for victim in victims:
            await self._evict(victim, pod, node)

    async def _evict(self, victim: Obj, pod: Obj, node: str) -> None:
        key, uid = key_of(victim), victim["metadata"].get("uid", "")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "message": f"{self._component}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": rfc3339(self._clock.now()),
        }
        patch: Obj = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        async with self._reports:
            try:
                await self._client.patch(PODS, key.name, patch, key.namespace, STRATEGIC_MERGE_PATCH, "status")
                await self._client.delete(PODS, key.name, key.namespace, uid=uid)
            except StatusError as error:
                if error.code not in (404, 409):
                    _log.warning("cannot preempt %s: %s", key, error.message)
                return
            except OSError as error:
                _log.warning("cannot preempt %s: %s", key, error)
                return
        by = pod["metadata"].get("uid", "")
        message = f"Preempted by pod {by} on node {node}"
        self._recorder.record(victim, "Normal", "Preempted", message, action="Preempting", related=pod)

    async def report(self, pod: Obj, message: str, *, nominated: str = "") -> None:
        """Say on the pod, and in an event, why it is not placed.

        Args:
            nominated: the machine on which room is being made for the pod.

        As long as the reason persists the event is counted up, while the pod, which says so already, is left alone.
        """
        status: Obj = {}
        condition = _refusal(pod, message, rfc3339(self._clock.now()))
        if condition is not None:
            status["conditions"] = [condition]
        # A large gang would cost a write for each member whenever it is tried.
        if condition is not None or gang_of(pod) is None:
            self._recorder.record(pod, "Warning", "FailedScheduling", message, action="Scheduling")
        if nominated != ((pod.get("status") or {}).get("nominatedNodeName") or ""):
            status["nominatedNodeName"] = nominated or None
        if not status:
            return
        key = key_of(pod)
        patch: Obj = {"metadata": {"uid": pod["metadata"].get("uid")}, "status": status}
        async with self._reports:
            try:
                await self._client.patch(PODS, key.name, patch, key.namespace, STRATEGIC_MERGE_PATCH, "status")
            except StatusError as error:
                if error.code not in (404, 409):
                    _log.warning("cannot report on %s: %s", key, error.message)
            except OSError as error:
                _log.warning("cannot report on %s: %s", key, error)

    async def announce(self) -> None:
        """Tell of bindings as long as this runs."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._bound:
                await self._quiet_or_late()
                for _ in range(min(_ANNOUNCED_AT_ONCE, len(self._bound))):
                    pod, node = self._bound.popleft()
                    message = f"Successfully assigned {key_of(pod)} to {node}"
                    self._recorder.record(pod, "Normal", "Scheduled", message, action="Binding")
                await self._recorder.drain()

    async def _quiet_or_late(self) -> None:
        if self._quiet.is_set():
            return
        waits = [asyncio.ensure_future(self._quiet.wait()), asyncio.ensure_future(self._clock.sleep(_LONGEST_SILENCE))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _refusal(pod: Obj, message: str, now: str) -> Obj | None:
    """The PodScheduled condition that says `message`; None if the pod has it already."""
    present = conditions.get(pod, "PodScheduled") or {}
    was_false = present.get("status") == "False"
    if was_false and present.get("reason") == "Unschedulable" and present.get("message") == message:
        return None
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastProbeTime": None,
        "lastTransitionTime": present.get("lastTransitionTime", now) if was_false else now,
    }

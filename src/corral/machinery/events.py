"""Events: what happened to an object, for people to read (`kubectl describe`).

Recording never blocks and never fails the caller: events go into a bounded queue that `run` empties. The same thing
said again about the same object raises `count` on the event that is there; an object that is talked about too much is
rate-limited (the limits are client-go's: a burst of 25, then one in five minutes for each source and object).
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass

from corral.base.backoff import Backoff
from corral.base.clock import Clock, rfc3339
from corral.client.client import Client
from corral.kinds.resources import EVENTS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.machinery.refusals import namespace_ends

logger = logging.getLogger(__name__)

_QUEUE = 1000
_RETRY = Backoff(initial=0.2, maximum=10.0)
_REMEMBERED = 4096
_BURST = 25.0
_REFILL_PER_SECOND = 1 / 300
_MESSAGE_BYTES = 1024
"""The API's own limit on an event's message."""
_MORE = " ..."


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled: float


@dataclass(frozen=True, slots=True)
class _Said:
    regarding: Obj
    type: str
    reason: str
    message: str
    time: str
    action: str = ""
    related: Obj | None = None

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        uid = self.regarding.get("uid") or f"{self.regarding.get('kind')}/{self.regarding.get('name')}"
        return (uid, self.regarding.get("fieldPath", ""), self.type, self.reason, self.message)


@dataclass(frozen=True, slots=True)
class _Written:
    namespace: str
    name: str
    count: int


class EventRecorder:
    """Records events as `component`. Somebody must keep `run()` running, else nothing is written.

    Args:
        component: `source.component` and `reportingComponent`, for example `default-scheduler`.
        host: `source.host`, for components of one machine.
    """

    def __init__(self, client: Client, component: str, clock: Clock, *, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock
        self._queue: asyncio.Queue[_Said] = asyncio.Queue(_QUEUE)
        self._written: OrderedDict[tuple[str, str, str, str, str], _Written] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._serial = 0
        self.dropped = 0
        """Events not recorded because of the rate limit or a full queue."""

    async def event(self, obj: Obj, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Say something about `obj`: `type` is `Normal` or `Warning`, `reason` one CamelCase word.

        `field_path` points into the object, for example `spec.containers{web}`. Returns at once.
        """
        self.record(obj, type, reason, message, field_path=field_path)

    def record(
        self,
        obj: Obj,
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        action: str = "",
        related: Obj | None = None,
    ) -> None:
        """`event` for callers that do not await.

        Args:
            action: what was done or tried, in one CamelCase word.
            related: another object that has to do with it.
        """
        regarding = reference(obj)
        if field_path:
            regarding["fieldPath"] = field_path
        if not self._admit(regarding.get("uid") or f"{regarding.get('namespace', '')}/{regarding.get('name')}"):
            self.dropped += 1
            return
        said = _Said(
            regarding,
            type,
            reason,
            _shortened(message),
            rfc3339(self._clock.now()),
            action,
            reference(related) if related is not None else None,
        )
        try:
            self._queue.put_nowait(said)
        except asyncio.QueueFull:
            self.dropped += 1

    def _admit(self, subject: str) -> bool:
        now = self._clock.monotonic()
        bucket = self._buckets.pop(subject, None) or _Bucket(_BURST, now)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.filled) * _REFILL_PER_SECOND)
        bucket.filled = now
        self._buckets[subject] = bucket
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1.0:
            return False
        bucket.tokens -= 1.0
        return True

    async def run(self) -> None:
        """Write what was recorded, until cancelled."""
        while True:
            said = await self._queue.get()
            try:
                await self._persist(said)
            except StatusError as error:
                if not namespace_ends(error):
                    logger.warning("cannot record event %s of %s: %s", said.reason, said.regarding.get("name"), error)
            finally:
                self._queue.task_done()

    async def _persist(self, said: _Said) -> None:
        """Write, again and again while the server cannot be reached: what happens meanwhile waits its turn."""
        attempt = 0
        while True:
            try:
                await self._write(said)
                return
            except OSError as error:
                if not attempt:
                    logger.warning("cannot record event %s of %s: %s", said.reason, said.regarding.get("name"), error)
                await self._clock.sleep(_RETRY.delay(attempt))
                attempt += 1

    async def drain(self) -> None:
        """Return when everything recorded so far is written or given up."""
        await self._queue.join()

    async def _write(self, said: _Said) -> None:
        before = self._written.get(said.key)
        after: _Written | None = None
        if before is not None:
            after = await self._raise_count(before, said)
        if after is None:
            after = await self._create(said)
        self._written[said.key] = after
        self._written.move_to_end(said.key)
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    async def _raise_count(self, before: _Written, said: _Said) -> _Written | None:
        patch: Obj = {"count": before.count + 1, "lastTimestamp": said.time}
        try:
            await self._client.patch(EVENTS, before.name, patch, before.namespace)
        except StatusError as error:
            if error.code == 404:
                return None
            raise
        return _Written(before.namespace, before.name, before.count + 1)

    async def _create(self, said: _Said) -> _Written:
        namespace = said.regarding.get("namespace") or "default"
        self._serial += 1
        stamp = int(self._clock.now().timestamp() * 1_000_000)
        name = f"{said.regarding['name'][:220]}.{stamp:x}{self._serial:04x}"
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        await self._client.create(
            EVENTS,
            {
                "kind": "Event",
                "apiVersion": "v1",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": said.regarding,
                "type": said.type,
                "reason": said.reason,
                "message": said.message,
                "source": source,
                **({"action": said.action} if said.action else {}),
                **({"related": said.related} if said.related is not None else {}),
                "reportingComponent": self._component,
                "reportingInstance": self._host,
                "firstTimestamp": said.time,
                "lastTimestamp": said.time,
                "count": 1,
            },
        )
        return _Written(namespace, name, 1)


def _shortened(message: str) -> str:
    """The message, or as much of it as the API takes and a sign that there was more."""
    encoded = message.encode()
    if len(encoded) <= _MESSAGE_BYTES:
        return message
    return encoded[: _MESSAGE_BYTES - len(_MORE)].decode(errors="ignore") + _MORE


def reference(obj: Obj) -> Obj:
    """An `ObjectReference` to `obj`."""
    metadata = obj["metadata"]
    found = {
        "kind": obj.get("kind"),
        "apiVersion": obj.get("apiVersion"),
        "namespace": metadata.get("namespace"),
        "name": metadata["name"],
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
    }
    return {field: value for field, value in found.items() if value}

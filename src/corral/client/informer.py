"""A local copy of one collection, kept fresh by a watch.

An informer lists once, then watches from the revision it has seen; after a lost connection it resumes from the last
event or bookmark, and only when the server has forgotten that revision (410) does it list again. A relist is compared
with the copy, so that handlers hear of everything that was added, changed or deleted meanwhile.

The copy never goes back in time: of a server that has not seen yet what we have seen elsewhere neither a watch nor a
list is taken. Only when that lasts does it mean that the store was filled from a backup and counts anew.

Objects in the copy are shared by all readers: whoever wants to change one copies it first.
"""

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import Callable, Iterable, ValuesView
from typing import Literal

import msgspec

from corral.base.backoff import Backoff
from corral.base.clock import Clock
from corral.client.api import WatchEvent
from corral.client.client import Client
from corral.kinds.status import StatusError, gone
from corral.kinds.types import Key, Obj, Resource, key_of

logger = logging.getLogger(__name__)

_BACKOFF = Backoff(initial=0.2, maximum=30.0)
_WATCH_SECONDS = 300
"""How long one watch may last at least; twice that at most (client-go's reflector has the same bounds)."""
_LAG_SECONDS = 5.0
"""No server that is any good is this far behind another one of its cell."""
_SETTLED_SECONDS = 5.0
"""A watch that lasted this long counts as a success: the next failure starts with the shortest delay."""


class Event(msgspec.Struct, frozen=True):
    """What happened to one object: `added` has no `old`, `deleted` has the last known state in `old` and no `new`."""

    type: Literal["added", "updated", "deleted"]
    key: Key
    old: Obj | None
    new: Obj | None

    @property
    def obj(self) -> Obj:
        """The latest known state."""
        obj = self.new if self.new is not None else self.old
        assert obj is not None
        return obj


Handler = Callable[[Event], None]
Indexer = Callable[[Obj], Iterable[str]]


class Informer:
    """A local copy of the objects of `resource` that match.

    Args:
        retry: how long to wait after a failed attempt.
        transform: what to keep of each object (default: all of it); it must keep kind-independent metadata: name,
            namespace, uid and resourceVersion.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        clock: Clock,
        rng: random.Random | None = None,
        transform: Callable[[Obj], Obj] | None = None,
        retry: Backoff = _BACKOFF,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        """Set when the first list is in the copy and its handlers have run."""
        self.revision = 0
        """Everything up to this revision is in the copy; set before the start, the first list is no older."""
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._clock = clock
        self._rng = rng or random.Random()
        self._transform = transform
        self._retry = retry
        self._objects: dict[Key, Obj] = {}
        self._handlers: list[Handler] = []
        self._indexers: dict[str, Indexer] = {}
        self._indices: dict[str, dict[str, dict[Key, Obj]]] = {}
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._stale = True
        self._anew = False
        self._ahead_since: float | None = None

    def get(self, key: Key) -> Obj | None:
        """The object of `key`, or None. Read-only."""
        return self._objects.get(key)

    def items(self) -> ValuesView[Obj]:
        """All objects, in no particular order. Read-only; do not await while iterating."""
        return self._objects.values()

    def __len__(self) -> int:
        return len(self._objects)

    def on_event(self, handler: Handler) -> None:
        """Call `handler` on every change, after the copy has it; objects already there are told as `added` now."""
        self._handlers.append(handler)
        for key, obj in list(self._objects.items()):
            self._tell([handler], Event("added", key, None, obj))

    def add_index(self, name: str, indexer: Indexer) -> None:
        """Keep an index: `indexer` gives the values under which an object is found with `index`. Idempotent."""
        if name in self._indexers:
            return
        self._indexers[name] = indexer
        self._indices[name] = {}
        for key, obj in self._objects.items():
            self._index_one(name, key, None, obj)

    def index(self, name: str, value: str) -> list[Obj]:
        """Objects that the indexer `name` put under `value`. Read-only."""
        return list(self._indices[name].get(value, {}).values())

    def count(self, name: str, value: str) -> int:
        """How many objects `index` would return."""
        return len(self._indices[name].get(value, ()))

    async def wait_for(self, key: Key, resource_version: str) -> None:
        """Return when the copy shows `key` at `resource_version` or later: how a writer waits for its own write."""
        obj = self._objects.get(key)
        revision = int(resource_version)
        if obj is None or _revision(obj) < revision:
            await self.reached(revision)

    async def reached(self, revision: int) -> None:
        """Return when the copy shows everything up to `revision`."""
        if self.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._order), future))
        await future

    async def run(self) -> None:
        """Keep the copy fresh until cancelled; failures are retried with back-off and logged."""
        attempt = 0
        while True:
            started = self._clock.monotonic()
            try:
                if self._stale:
                    await self._relist()
                await self._follow()
            except StatusError as error:
                if (error.code == 410 and not self._stale) or self._counts_anew(error):
                    self._stale = True
                    continue
                failure: Exception | None = error
            except OSError as error:
                failure = error
            else:
                failure = None
            if self._clock.monotonic() - started >= _SETTLED_SECONDS:
                attempt = 0
                if failure is None:
                    continue
            if failure is not None:
                # That a server cannot be reached, its transport tells for all who share it.
                level = logging.DEBUG if isinstance(failure, OSError) else logging.WARNING
                logger.log(level, "cannot watch %s, will retry: %s", self.resource.plural, failure)
            await self._clock.sleep(self._retry.delay(attempt) * self._rng.uniform(0.5, 1.0))
            attempt += 1

    def _counts_anew(self, error: StatusError) -> bool:
        """Whether the server refuses our revision because its store is another one, not because it lags behind."""
        if not any(cause.reason == "ResourceVersionTooLarge" for cause in error.causes):
            return False
        now = self._clock.monotonic()
        if self._ahead_since is None:
            self._ahead_since = now
        self._anew = now - self._ahead_since >= _LAG_SECONDS
        return self._anew

    async def _relist(self) -> None:
        listed = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource_version=str(self.revision) if self.revision and not self._anew else "",
        )
        fresh = {key_of(obj): obj for obj in listed.get("items") or ()}
        for key in [key for key in self._objects if key not in fresh]:
            self._remove(key)
        revision = int(listed["metadata"]["resourceVersion"])
        for key, obj in fresh.items():
            # What is older by its number may be newer.
            self._put(key, obj, anew=self._anew)
        self._stale, self._anew, self._ahead_since = False, False, None
        self._progress(revision, restart=True)
        self.synced.set()

    async def _follow(self) -> None:
        seconds = int(self._rng.uniform(_WATCH_SECONDS, 2 * _WATCH_SECONDS))
        async with self._client.watch(
            self.resource,
            self._namespace,
            resource_version=str(self.revision),
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout=seconds,
        ) as events:
            self._ahead_since = None
            async for event in events:
                self._apply(event)

    def _apply(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            error = StatusError.from_status(event.object)
            raise gone(error.message) if error.reason in ("Expired", "Gone") else error
        if event.type == "DELETED":
            self._remove(key_of(event.object), event.object)
        elif event.type != "BOOKMARK":
            self._put(key_of(event.object), event.object)
        self._progress(_revision(event.object))

    def _put(self, key: Key, obj: Obj, *, anew: bool = False) -> None:
        old = self._objects.get(key)
        if old is not None:
            if old["metadata"].get("uid") != obj["metadata"].get("uid"):
                self._remove(key)
                old = None
            else:
                before, now = _revision(old), _revision(obj)
                if before >= now and not (anew and before > now):
                    return
        obj = self._kept(obj)
        self._objects[key] = obj
        for name in self._indexers:
            self._index_one(name, key, old, obj)
        self._tell(self._handlers, Event("added" if old is None else "updated", key, old, obj))

    def _remove(self, key: Key, last: Obj | None = None) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        for name in self._indexers:
            self._index_one(name, key, old, None)
        self._tell(self._handlers, Event("deleted", key, old if last is None else self._kept(last), None))

    def _kept(self, obj: Obj) -> Obj:
        if "kind" not in obj:
            # Items of a typed list carry neither; whoever records an event about one needs both.
            obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, **obj}
        return obj if self._transform is None else self._transform(obj)

    def _index_one(self, name: str, key: Key, old: Obj | None, new: Obj | None) -> None:
        indexer, index = self._indexers[name], self._indices[name]
        before = indexer(old) if old is not None else ()
        after = indexer(new) if new is not None else ()
        if before != after:
            for value in before:
                bucket = index.get(value)
                if bucket is not None:
                    bucket.pop(key, None)
                    if not bucket:
                        del index[value]
        for value in after:
            index.setdefault(value, {})[key] = new  # type: ignore[assignment]

    def _tell(self, handlers: Iterable[Handler], event: Event) -> None:
        for handler in handlers:
            try:
                handler(event)
            except Exception:
                # One reader's fault must not stop the copy that all readers share.
                logger.exception("handler of %s failed on %s %s", self.resource.plural, event.type, event.key)

    def _progress(self, revision: int, *, restart: bool = False) -> None:
        self.revision = revision if restart else max(self.revision, revision)
        while self._waiters and self._waiters[0][0] <= self.revision:
            _, _, future = heapq.heappop(self._waiters)
            if not future.done():
                future.set_result(None)


def _revision(obj: Obj) -> int:
    return int(obj["metadata"].get("resourceVersion") or 0)

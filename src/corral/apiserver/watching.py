"""A watch: what there is, then what changes, in order and without gaps.

A `Watching` pushes batches of events into a sink, synchronously, so that one write reaches a thousand watchers by joins
of cached bytes; only a sink that cannot take more makes it wait, and meanwhile the store's bounded buffer fills. Who
falls behind it gets 410 and lists again.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import orjson

from corral.apiserver.context import Context
from corral.apiserver.core import Core
from corral.apiserver.options import ListOptions
from corral.apiserver.rendering import Rendered
from corral.apiserver.selecting import Selection
from corral.kinds.status import StatusError, gone
from corral.kinds.types import Obj
from corral.store.protocol import Change, Compacted, Topic, Watch

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BOOKMARK_SECONDS = 60.0
# kube-apiserver ends watches that set no timeout after 30 to 60 minutes, so that they spread over servers.
DEFAULT_TIMEOUT_SECONDS = 1800.0
_SLICE = 500


class Event(NamedTuple):
    """One event; `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    rendered: Rendered


class Sink(Protocol):
    """Where events go."""

    def emit(self, events: Sequence[Event]) -> None:
        """Take events; does not block."""

    @property
    def congested(self) -> bool:
        """Whether `ready` must be awaited before more is emitted."""

    async def ready(self) -> None:
        """Return when the sink can take more."""


class Watching:
    """One watch, checked and positioned; `run` delivers it."""

    def __init__(self, core: Core, ctx: Context, options: ListOptions) -> None:
        self.core = core
        self.ctx = ctx
        self.options = options
        self._selection = Selection(ctx, options)
        self._initial: list[Rendered] = []
        self._show_end = False
        self._delivered = 0
        self._watch = self._open()

    def _open(self) -> Watch:
        """Raises StatusError: 410."""
        core, options = self.core, self.options
        prefix, only = self._where()
        after = options.revision or 0
        initial = options.send_initial
        if initial is None:
            initial = after == 0
        else:
            self._show_end = bool(initial and options.bookmarks)
        if initial or after == 0:
            entries, after = core.store.current(prefix, only)
            if initial:
                items = core.render_all(self.ctx.kind, entries)
                matches = self._selection.matches
                self._initial = items if matches is None else [item for item in items if matches(item)]
        self._delivered = after
        try:
            return core.store.watch(prefix, after=after, only=only)
        except Compacted as error:
            raise gone(f"too old resource version: {error.asked} ({error.oldest})") from error

    def _where(self) -> tuple[str, Topic | None]:
        """Where in the store anything can match, so that what cannot wakes nobody."""
        kind, namespace, name = self.ctx.kind, self.ctx.namespace, self._selection.name
        if name and (namespace or not kind.resource.namespaced):
            return self.core.key(kind, namespace, name), None
        return self.core.prefix(kind, namespace), self._selection.topic(self.core, self.ctx)

    def close(self) -> None:
        """End the watch."""
        self._watch.close()

    async def run(self, sink: Sink) -> None:
        """Deliver events until the timeout, the end of the store, or cancellation."""
        loop = asyncio.get_running_loop()
        seconds = float(self.options.timeout or DEFAULT_TIMEOUT_SECONDS * self.core.rng.uniform(1, 2))
        end = loop.call_later(seconds, self._end, sink)
        bookmarks = Bookmarks(self, sink) if self.options.bookmarks else None
        try:
            await self._send_initial(sink)
            if bookmarks is not None:
                bookmarks.start(loop)
            async for changes in self._watch:
                events = self._events(changes)
                self._delivered = changes[-1].entry.revision
                if events:
                    sink.emit(events)
                    if sink.congested:
                        await sink.ready()
        except Compacted as error:
            refusal = gone(f"too old resource version: {error.asked} ({error.oldest}): the watcher was too slow")
            sink.emit([error_event(refusal)])
        finally:
            end.cancel()
            if bookmarks is not None:
                bookmarks.stop()
            self._watch.close()

    def _end(self, sink: Sink) -> None:
        if self.options.bookmarks:
            sink.emit([self.bookmark()])
        self._watch.close()

    async def _send_initial(self, sink: Sink) -> None:
        for start in range(0, len(self._initial), _SLICE):
            sink.emit([Event("ADDED", item) for item in self._initial[start : start + _SLICE]])
            if sink.congested:
                await sink.ready()
        self._initial = []
        if self._show_end:
            sink.emit([self.bookmark({INITIAL_EVENTS_END: "true"})])

    def bookmark(self, annotations: dict[str, str] | None = None) -> Event:
        """A bookmark of what has been delivered."""
        resource = self.ctx.kind.resource
        metadata: Obj = {"resourceVersion": str(max(self._delivered, self._watch.progress()))}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        return Event("BOOKMARK", Rendered(orjson.dumps(obj), obj))

    def _events(self, changes: Sequence[Change]) -> list[Event]:
        core, kind = self.core, self.ctx.kind
        matches = self._selection.matches
        events: list[Event] = []
        for change in changes:
            rendered = core.render(kind, change.entry)
            if change.type == "delete":
                if matches is None or matches(rendered):
                    events.append(Event("DELETED", rendered))
            elif matches is None:
                events.append(Event("ADDED" if change.previous is None else "MODIFIED", rendered))
            else:
                before = change.previous is not None and matches(core.render(kind, change.previous))
                if matches(rendered):
                    events.append(Event("MODIFIED" if before else "ADDED", rendered))
                elif before and change.previous is not None:
                    left = with_revision(core.render(kind, change.previous), change.entry.revision)
                    events.append(Event("DELETED", left))
        return events


class Bookmarks:
    """Sends a bookmark every minute, so that a quiet watcher can resume from a revision that is still kept."""

    def __init__(self, watching: Watching, sink: Sink) -> None:
        self._watching = watching
        self._sink = sink
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin."""
        self._timer = loop.call_later(BOOKMARK_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._sink.congested:
            self._sink.emit([self._watching.bookmark()])
        self.start(loop)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()


def with_revision(rendered: Rendered, revision: int) -> Rendered:
    """An object as it was, under the revision at which it left the selection."""
    obj = rendered.fresh()
    obj["metadata"]["resourceVersion"] = str(revision)
    return Rendered(orjson.dumps(obj), obj)


def error_event(error: StatusError) -> Event:
    """A refusal within a watch that has begun."""
    status = error.status()
    return Event("ERROR", Rendered(orjson.dumps(status), status))

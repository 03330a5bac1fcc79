"""Follow a collection."""

from collections.abc import Sequence

import orjson

from corral.apiserver.answers import table_of
from corral.apiserver.context import Context
from corral.apiserver.core import Core
from corral.apiserver.decoding import encode_yaml
from corral.apiserver.negotiation import TABLE
from corral.apiserver.options import list_options
from corral.apiserver.rendering import partial
from corral.apiserver.verbs.list import check_not_future
from corral.apiserver.watching import Event, Watching
from corral.kinds.types import Obj


def watch(core: Core, ctx: Context) -> Watching:
    """A watch of what the query selects.

    Raises:
        StatusError: 400, 410, 422; 504 if `resourceVersion` has not happened yet.
    """
    options = list_options(ctx.query)
    check_not_future(core, options.revision)
    return Watching(core, ctx, options)


class Lines:
    """Events as the lines of a watch, in the format that was asked for."""

    def __init__(self, core: Core, ctx: Context) -> None:
        self._core = core
        self._ctx = ctx
        self._plain = ctx.format.plain
        self._headed = False
        self.content_type = ctx.format.content_type

    def encode(self, events: Sequence[Event]) -> bytes:
        """The bytes of `events`."""
        if self._plain:
            if len(events) == 1:
                return events[0].rendered.line(events[0].type)
            return b"".join([event.rendered.line(event.type) for event in events])
        return b"".join([self._line(event) for event in events])

    def _line(self, event: Event) -> bytes:
        shown: Obj = event.rendered.obj
        if event.type == "ERROR":
            pass
        elif self._ctx.format.convert == TABLE:
            shown = self._table(event)
        elif self._ctx.format.convert:
            shown = partial(shown)
        line = {"type": event.type, "object": shown}
        if self._ctx.format.media == "yaml":
            return b"---\n" + encode_yaml(line)
        return orjson.dumps(line) + b"\n"

    def _table(self, event: Event) -> Obj:
        meta = {"resourceVersion": event.rendered.obj["metadata"]["resourceVersion"]}
        if event.type == "BOOKMARK":
            result = table_of(self._core, self._ctx, [], meta)
            annotations = event.rendered.obj["metadata"].get("annotations")
            # A bookmark's row carries the annotation that ends the initial events.
            result["rows"] = [{"cells": [], "object": partial(event.rendered.obj)}] if annotations else []
        else:
            result = table_of(self._core, self._ctx, [event.rendered.obj], meta)
        if self._headed:
            result["columnDefinitions"] = []
        self._headed = True
        return result

"""Read a collection, whole or page by page."""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import orjson

from corral.apiserver.answers import list_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import ListOptions, list_options
from corral.apiserver.rendering import Rendered
from corral.apiserver.selecting import Selection
from corral.kinds.status import Cause, StatusError, bad_request, gone
from corral.kinds.types import Obj
from corral.store.protocol import Compacted, Entry, Future

_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter."
)


def check_not_future(core: Core, revision: int | None) -> None:
    """Raise 504 for a revision that has not happened yet, in the words that clients retry on."""
    if revision and revision > core.store.revision:
        raise future(revision, core.store.revision)


def future(asked: int, current: int) -> StatusError:
    """The refusal of a revision that has not happened yet."""
    why = f"Too large resource version: {asked}, current: {current}"
    cause = Cause("ResourceVersionTooLarge", "Too large resource version")
    return StatusError(504, "Timeout", f"Timeout: {why}", causes=[cause], retry_after=1)


class Token(msgspec.Struct, frozen=True):
    """What `continue` stands for: go on after the key `after` (without the prefix), as of `revision` (0: now)."""

    revision: int
    after: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.revision, self.after])).decode().rstrip("=")


def decode_token(text: str) -> Token:
    """The token behind `continue`.

    Raises:
        StatusError: 400.
    """
    try:
        value: Any = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        revision, after = msgspec.convert(value, tuple[Annotated[int, msgspec.Meta(ge=0)], str])
        return Token(revision, after)
    except (binascii.Error, ValueError, msgspec.ValidationError) as error:
        raise bad_request("continue key is not valid: it is not one that this server gave") from error


async def list_(core: Core, ctx: Context) -> Reply:
    """The collection as of one revision.

    Raises:
        StatusError: 400, 410, 504.
    """
    if not ctx.query:
        entries, revision = core.store.current(core.prefix(ctx.kind, ctx.namespace))
        return list_reply(core, ctx, core.render_all(ctx.kind, entries), _meta(revision))
    options = list_options(ctx.query)
    selection = Selection(ctx, options)
    check_not_future(core, options.revision)
    if options.limit or options.token or options.match == "Exact":
        return await _page(core, ctx, options, selection)
    items, revision = current(core, ctx, selection)
    return list_reply(core, ctx, items, _meta(revision))


def current(core: Core, ctx: Context, selection: Selection) -> tuple[list[Rendered], int]:
    """What is selected now, and the revision that this shows."""
    prefix = core.prefix(ctx.kind, ctx.namespace)
    if selection.name and (ctx.namespace or not ctx.kind.resource.namespaced):
        revision = core.store.revision
        found = core.store.get(prefix + selection.name)
        entries: Sequence[Entry] = [] if found is None else [found]
    else:
        entries, revision = core.store.current(prefix, selection.topic(core, ctx))
    return _select(core, ctx, entries, selection), revision


def _select(core: Core, ctx: Context, entries: Sequence[Entry], selection: Selection) -> list[Rendered]:
    items = core.render_all(ctx.kind, entries)
    matches = selection.matches
    return items if matches is None else [item for item in items if matches(item)]


async def _page(core: Core, ctx: Context, options: ListOptions, selection: Selection) -> Reply:
    token = decode_token(options.token) if options.token else Token(_start(options), "")
    prefix = core.prefix(ctx.kind, ctx.namespace)
    revision, after = token.revision, prefix + token.after if token.after else ""
    items: list[Rendered] = []
    only = selection.topic(core, ctx)
    while True:
        try:
            page = await core.store.list(prefix, revision=revision, limit=options.limit, after=after, only=only)
        except Compacted as error:
            raise gone(
                _EXPIRED if options.token else f"The resourceVersion for the provided list is too old: {error}"
            ) from error
        except Future as error:
            raise future(error.asked, error.current) from error
        revision = page.revision
        room = options.limit - len(items) if options.limit else len(page.entries)
        taken = 0
        for taken, entry in enumerate(page.entries, 1):  # noqa: B007
            rendered = core.render(ctx.kind, entry)
            if selection.matches is None or selection.matches(rendered):
                items.append(rendered)
                room -= 1
                if not room:
                    break
        if taken:
            after = page.entries[taken - 1].key
        left = page.remaining + len(page.entries) - taken
        if not left or (options.limit and len(items) >= options.limit):
            break
    meta = _meta(revision)
    if left:
        meta["continue"] = Token(revision, after.removeprefix(prefix)).encode()
        if selection.matches is None:
            meta["remainingItemCount"] = left
    return list_reply(core, ctx, items, meta)


def _start(options: ListOptions) -> int:
    # Without a match rule, a page of "any revision not older" starts now, which is allowed and cheapest.
    return options.revision or 0 if options.match == "Exact" else 0


def _meta(revision: int) -> Obj:
    return {"resourceVersion": str(revision)}

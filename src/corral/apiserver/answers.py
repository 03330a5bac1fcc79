"""Objects, lists and refusals as replies, in the representation that was asked for."""

from collections.abc import Sequence
from typing import Any

import orjson

from corral.apiserver.context import JSON, Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import encode_yaml
from corral.apiserver.negotiation import PARTIAL, TABLE, Format
from corral.apiserver.rendering import Rendered, join_list, partial
from corral.kinds.status import StatusError
from corral.kinds.tables import table
from corral.kinds.types import Obj

_INCLUDES = {"None": "None", "Metadata": "Metadata", "Object": "Object"}


def warnings_as_headers(warnings: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`Warning` headers (RFC 7234, code 299), as clients print them."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings)
    return tuple(("Warning", f'299 - "{text}"') for text in escaped if text.isprintable())


def object_reply(
    core: Core, ctx: Context, rendered: Rendered, *, status: int = 200, warnings: Sequence[str] = ()
) -> Reply:
    """One object."""
    headers = warnings_as_headers(warnings) if warnings else ()
    if ctx.format.plain:
        return Reply(status, rendered.json, JSON, headers)
    if ctx.format.convert == TABLE:
        return value_reply(table_of(core, ctx, [rendered.obj]), ctx.format, status, headers)
    if ctx.format.convert == PARTIAL:
        return value_reply(partial(rendered.obj), ctx.format, status, headers)
    return value_reply(rendered.obj, ctx.format, status, headers)


def list_reply(core: Core, ctx: Context, items: Sequence[Rendered], meta: Obj) -> Reply:
    """A list."""
    if ctx.format.plain:
        return Reply(200, join_list(ctx.kind, [item.json for item in items], meta))
    objects = [item.obj for item in items]
    if ctx.format.convert == TABLE:
        return value_reply(table_of(core, ctx, objects, meta), ctx.format)
    if ctx.format.convert:
        kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        objects = [partial(obj) for obj in objects]
    else:
        kind, version = ctx.kind.list_kind, ctx.kind.resource.api_version
    return value_reply({"kind": kind, "apiVersion": version, "metadata": meta, "items": objects}, ctx.format)


def table_of(core: Core, ctx: Context, objects: Sequence[Obj], meta: Obj | None = None) -> Obj:
    """A Table of objects, with as much of each object as `includeObject` says."""
    include: Any = _INCLUDES.get(ctx.query.get("includeObject", ""), "Metadata")
    return table(ctx.kind, objects, now=core.now(), include=include, list_meta=meta)


def value_reply(value: Any, form: Format, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Any JSON value, as JSON or YAML."""
    if form.media == "yaml":
        return Reply(status, encode_yaml(value), "application/yaml", headers)
    return Reply(status, orjson.dumps(value), JSON, headers)


def success(ctx: Context, obj: Obj) -> Obj:
    """`Status` of an object that is gone."""
    details = {"name": ctx.name or obj["metadata"].get("name", ""), "group": ctx.group, "kind": ctx.plural}
    details["uid"] = obj["metadata"].get("uid", "")
    shown = {field: value for field, value in details.items() if value}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": shown}


def refusal(error: StatusError) -> Reply:
    """A refusal."""
    headers = (("Retry-After", str(error.retry_after)),) if error.retry_after else ()
    return Reply(error.code, orjson.dumps(error.status()), JSON, headers)

"""`scale`: the number of replicas of anything, as autoscaling/v1 Scale."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from corral.apiserver import metadata as meta
from corral.apiserver import writing
from corral.apiserver.answers import value_reply, warnings_as_headers
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode, decode_object, media_type
from corral.apiserver.options import write_options
from corral.apiserver.rendering import Rendered
from corral.client.api import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from corral.kinds import fields
from corral.kinds.patch import json_patch, merge_patch
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import Cause, bad_request, invalid, unsupported_media_type
from corral.kinds.types import Obj
from corral.store.protocol import Entry


def scale_of(obj: Obj, paths: Mapping[str, str]) -> Obj:
    """The Scale of an object."""
    metadata = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Obj = {"replicas": _number(obj, paths.get("status", ""))}
    selector = selector_text(_at(obj, paths.get("selector", "")))
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {field: metadata[field] for field in shown if field in metadata},
        "spec": {"replicas": _number(obj, paths["spec"])},
        "status": status,
    }


def _at(obj: Obj, path: str) -> Any:
    return fields.get(obj, path.lstrip(".")) if path else None


def _number(obj: Obj, path: str) -> int:
    value = _at(obj, path)
    return value if isinstance(value, int) else 0


def selector_text(selector: Any) -> str:
    """A label selector object (or a map of labels, or text) as selector text."""
    if isinstance(selector, str) or not selector:
        return selector or ""
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        selector = {"matchLabels": selector}
    LabelSelector.from_object(selector)
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        if operator in ("In", "NotIn"):
            terms.append(f"{key} {operator.lower()} ({','.join(sorted(expression.get('values') or ()))})")
        else:
            terms.append(key if operator == "Exists" else f"!{key}")
    return ",".join(terms)


async def read(core: Core, ctx: Context) -> Reply:
    """The Scale. Raises StatusError."""
    rendered = core.render(ctx.kind, core.entry(ctx.kind, ctx.namespace, ctx.name))
    return value_reply(scale_of(rendered.obj, ctx.kind.scale_paths), ctx.format)


async def replace(core: Core, ctx: Context) -> Reply:
    """Set replicas from a Scale. Raises StatusError."""
    wanted = decode_object(ctx.call.body, ctx.call.content_type)
    return await _write(core, ctx, lambda scale: wanted)


async def change(core: Core, ctx: Context) -> Reply:
    """Set replicas by a patch of the Scale. Raises StatusError."""
    media = media_type(ctx.call.content_type)
    if media == JSON_PATCH:
        operations = decode(ctx.call.body, "application/json")
        return await _write(core, ctx, lambda scale: json_patch(scale, operations))
    if media in (MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH):
        # A Scale has no lists, so that the other patches all come to a merge.
        given = decode_object(ctx.call.body, "application/yaml" if media == APPLY_PATCH else "application/json")
        return await _write(core, ctx, lambda scale: merge_patch(scale, given))
    raise unsupported_media_type(f"the body of the request was in an unknown format: {media}")


async def _write(core: Core, ctx: Context, wanted: Callable[[Obj], Obj]) -> Reply:
    options = write_options(ctx.query)

    def apply(entry: Entry, rendered: Rendered) -> Obj:
        obj = rendered.fresh()
        scale = wanted(scale_of(orjson.loads(rendered.json), ctx.kind.scale_paths))
        if scale.get("kind") not in (None, "Scale"):
            raise bad_request(f"the body must be a Scale of autoscaling/v1, not {scale['kind']}")
        given = meta.shape(scale)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            why = f"Invalid value: {replicas}: must be greater than or equal to 0"
            raise invalid("autoscaling", "Scale", ctx.name, [Cause("FieldValueInvalid", why, "spec.replicas")])
        _set(obj, ctx.kind.scale_paths["spec"], replicas)
        for field in ("uid", "resourceVersion"):
            if given.get(field):
                obj["metadata"][field] = given[field]
        return obj

    warnings: list[str] = []
    outcome = await writing.update(core, ctx, apply, options, warnings)
    body = scale_of(outcome.rendered.obj, ctx.kind.scale_paths)
    return value_reply(body, ctx.format, 200, warnings_as_headers(outcome.warnings))


def _set(obj: Obj, path: str, value: int) -> None:
    *parents, last = path.lstrip(".").split(".")
    for parent in parents:
        obj = obj.setdefault(parent, {})
    obj[last] = value

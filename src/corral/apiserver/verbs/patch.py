"""Change an object: JSON patch, merge patch, strategic merge patch, server-side apply."""

from collections.abc import Callable

from corral.apiserver import metadata as meta
from corral.apiserver import writing
from corral.apiserver.answers import object_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.decoding import decode, decode_object, expect_kind, media_type
from corral.apiserver.options import WriteOptions, write_options
from corral.apiserver.rendering import Rendered
from corral.client.api import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH
from corral.kinds.apply import apply
from corral.kinds.patch import json_patch, merge_patch, strategic_merge_patch
from corral.kinds.status import bad_request, unsupported_media_type
from corral.kinds.types import Obj
from corral.store.protocol import Entry

_NOT_RESET = frozenset({"apiVersion", "kind", "metadata", "status"})
_IDENTITY = ("name", "namespace", "uid", "resourceVersion")
_APPLY_TYPES = frozenset({APPLY_PATCH, "application/apply-patch+json"})


async def patch(
    core: Core, ctx: Context, prepare: writing.Prepare | None = None, validate: writing.Validate | None = None
) -> Reply:
    """Change the object as the body says; computed again if another write comes between.

    Raises:
        StatusError: 400, 403, 404, 409, 415, 422.
    """
    options = write_options(ctx.query)
    media = media_type(ctx.call.content_type)
    if media in _APPLY_TYPES:
        return await _apply(core, ctx, options, prepare, validate)
    warnings: list[str] = []
    change = _patcher(ctx, media)
    outcome = await writing.update(core, ctx, change, options, warnings, prepare=prepare, validate=validate)
    return object_reply(core, ctx, outcome.rendered, warnings=outcome.warnings)


def _patcher(ctx: Context, media: str) -> Callable[[Entry, Rendered], Obj]:
    if media == JSON_PATCH:
        operations = decode(ctx.call.body, "application/json")
        if not isinstance(operations, list):
            raise bad_request("the body of a JSON patch must be an array of operations")
        return lambda entry, rendered: json_patch(rendered.fresh(), operations)
    if media == MERGE_PATCH:
        merge = decode_object(ctx.call.body, "application/json")
        return lambda entry, rendered: merge_patch(rendered.fresh(), merge)
    if media == STRATEGIC_MERGE_PATCH:
        if ctx.kind.custom:
            raise unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                f"{JSON_PATCH}, {MERGE_PATCH}, {APPLY_PATCH}"
            )
        strategic = decode_object(ctx.call.body, "application/json")
        return lambda entry, rendered: strategic_merge_patch(ctx.kind.schema, rendered.fresh(), strategic)
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        f"{JSON_PATCH}, {MERGE_PATCH}, {STRATEGIC_MERGE_PATCH}, {APPLY_PATCH}"
    )


async def _apply(
    core: Core,
    ctx: Context,
    options: WriteOptions,
    prepare: writing.Prepare | None,
    validate: writing.Validate | None,
) -> Reply:
    if not options.field_manager:
        raise bad_request(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    duplicates: list[str] = []
    config = decode_object(ctx.call.body, "application/yaml", duplicates=duplicates)
    expect_kind(config, ctx.kind.resource)
    given = meta.shape(config)
    meta.match_url(given, ctx)
    if given.get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    warnings: list[str] = []
    writing.prune(config, ctx.kind, options, warnings, [f'duplicate field "{name}"' for name in duplicates])
    _reset(ctx, config)

    def merged(live: Obj | None) -> Obj:
        return apply(
            ctx.kind.schema,
            live,
            config,
            manager=options.field_manager,
            force=bool(options.force),
            now=core.now(),
            subresource=ctx.subresource,
        )

    if not ctx.subresource and core.store.get(core.key(ctx.kind, ctx.namespace, ctx.name)) is None:
        meta.check_uid(ctx, given.get("uid", ""), "")
        obj = merged(None)
        outcome = await writing.create(core, ctx, obj, options, warnings, tracked=True)
        return object_reply(core, ctx, outcome.rendered, status=201, warnings=outcome.warnings)
    outcome = await writing.update(
        core,
        ctx,
        lambda entry, rendered: merged(rendered.fresh()),
        options,
        warnings,
        prepare=prepare,
        validate=validate,
        tracked=True,
    )
    return object_reply(core, ctx, outcome.rendered, warnings=outcome.warnings)


def _reset(ctx: Context, config: Obj) -> None:
    """Drop what is not written through this endpoint, so that nobody comes to own what they did not set."""
    if ctx.subresource == "status":
        for field in config.keys() - _NOT_RESET:
            del config[field]
        config["metadata"] = {name: config["metadata"][name] for name in _IDENTITY if name in config["metadata"]}
    elif not ctx.subresource and "status" in ctx.kind.subresources:
        config.pop("status", None)

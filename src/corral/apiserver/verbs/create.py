"""Make an object."""

from collections.abc import Collection

from corral.apiserver import alike, writing
from corral.apiserver.answers import object_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import write_options


async def create(core: Core, ctx: Context) -> Reply:
    """Make the object in the body.

    Raises:
        StatusError: 400, 403, 404, 409, 415, 422.
    """
    options = write_options(ctx.query)
    warnings: list[str] = []
    obj = alike.again(ctx.kind, ctx.call)
    if obj is not None:
        settled: Collection[str] = tuple(obj)
    else:
        obj, found = writing.read_body(ctx, options)
        settled = alike.settle(ctx.kind, obj)
        writing.prune(obj, ctx.kind, options, warnings, found, settled)
    outcome = await writing.create(core, ctx, obj, options, warnings, settled=settled)
    return object_reply(core, ctx, outcome.rendered, status=201, warnings=outcome.warnings)

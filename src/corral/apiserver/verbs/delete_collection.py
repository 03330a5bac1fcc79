"""Remove all objects that a selector picks."""

import msgspec

from corral.apiserver.answers import list_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import delete_options, list_options
from corral.apiserver.rendering import Rendered
from corral.apiserver.selecting import Selection
from corral.apiserver.verbs.delete import remove
from corral.apiserver.verbs.list import current
from corral.kinds.status import StatusError


async def delete_collection(core: Core, ctx: Context) -> Reply:
    """Remove each selected object as `delete` would; objects that others remove meanwhile are skipped.

    Raises:
        StatusError: 400, 403, 409.
    """
    options = delete_options(ctx.query, ctx.call.body, ctx.call.content_type)
    items, revision = current(core, ctx, Selection(ctx, list_options(ctx.query)))
    removed: list[Rendered] = []
    for item in items:
        metadata = item.obj["metadata"]
        one = msgspec.structs.replace(ctx, namespace=metadata.get("namespace", ""), name=metadata["name"])
        try:
            removed.append((await remove(core, one, options)).rendered)
        except StatusError as error:
            if error.reason != "NotFound":
                raise
    return list_reply(core, ctx, removed, {"resourceVersion": str(revision)})

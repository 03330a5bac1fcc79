"""Read one object."""

from corral.apiserver.answers import object_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import number
from corral.apiserver.verbs.list import check_not_future


def get(core: Core, ctx: Context) -> Reply:
    """The object as it is now, whatever `resourceVersion` asks for: it is never older.

    Raises:
        StatusError: 404; 504 if `resourceVersion` has not happened yet.
    """
    if ctx.query:
        check_not_future(core, number(ctx.query, "resourceVersion"))
    return object_reply(core, ctx, core.render(ctx.kind, core.entry(ctx.kind, ctx.namespace, ctx.name)))

"""Replace an object."""

from corral.apiserver import writing
from corral.apiserver.answers import object_reply
from corral.apiserver.context import Context, Reply
from corral.apiserver.core import Core
from corral.apiserver.options import write_options
from corral.apiserver.rendering import Rendered
from corral.kinds.types import Obj
from corral.store.protocol import Entry


async def update(
    core: Core, ctx: Context, prepare: writing.Prepare | None = None, validate: writing.Validate | None = None
) -> Reply:
    """Replace the object by the one in the body.

    Raises:
        StatusError: 400, 403, 404, 409, 415, 422.
    """
    options = write_options(ctx.query)
    first, found = writing.read_body(ctx, options)
    unused = [first]

    def body(entry: Entry, rendered: Rendered) -> Obj:
        # Read again for a second try, because a try changes the object it is given.
        return unused.pop() if unused else writing.read_body(ctx, options)[0]

    outcome = await writing.update(core, ctx, body, options, [], prepare=prepare, validate=validate, found=found)
    return object_reply(core, ctx, outcome.rendered, warnings=outcome.warnings)

"""An event loop that does not cry over connections which nobody wants any more.

When a connection is given up in the middle of its TLS handshake (a timeout, a cancel), uvloop may close it below its
TLS protocol, which does not hear of that and writes to the closed connection what its handshake has left (see also
MagicStack/uvloop#506 and #685). The error reaches nobody but the loop's exception handler, which would log a traceback.
Under a slow server there are many, and all of them mean "closed, as you wished".
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

logger = logging.getLogger(__name__)

_CLOSED: Final = "the handler is closed"
"""What uvloop says, of a transport that itself does not say so."""

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in a new loop of uvloop's."""
    return uvloop.run(main, loop_factory=new_loop)


def new_loop() -> uvloop.Loop:
    """A loop whose complaints about closed connections are heard with the level DEBUG only."""
    loop = uvloop.new_event_loop()
    loop.set_exception_handler(_hear)
    return loop


def _hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, RuntimeError) and _CLOSED in str(error):
        logger.debug("%s: %s", context.get("message"), error)
    else:
        loop.default_exception_handler(context)

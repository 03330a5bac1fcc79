"""A transport without a wire: the rooms of one process call the server as their own user, with the same authorization
and admission as anybody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import orjson

from corral.apiserver.auth.api import User
from corral.apiserver.context import Call, Reply
from corral.apiserver.mailbox import Mailbox
from corral.apiserver.server import ApiServer
from corral.apiserver.watching import Event, Watching
from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.kinds.status import StatusError, bad_request

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_CONGESTED = 10_000


class InProcessTransport:
    """`corral.client.api.Transport` to a server in this process."""

    def __init__(self, server: ApiServer, user: User) -> None:
        self._server = server
        self._user = user

    async def call(self, request: ApiRequest) -> ApiResponse:
        """Perform one request."""
        return await self._server.handle(request, self._user)

    def watch(self, request: ApiRequest) -> "AbstractAsyncContextManager[AsyncIterator[WatchEvent]]":
        """Open a watch. All watchers share the objects of its events, with the server too: read-only."""
        return self._watch(request)

    @asynccontextmanager
    async def _watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        call = Call("GET", request.path, self._user, request.query, accept=request.accept)
        answer = self._server.dispatch(call)
        if not isinstance(answer, Watching):
            raise _refused(answer if isinstance(answer, Reply) else await answer)
        queue = _Queue(_CONGESTED)
        self._server.metrics.watchers += 1
        task = asyncio.create_task(_deliver(answer, queue), name=f"watch {request.path}")
        try:
            yield queue
        finally:
            self._server.metrics.watchers -= 1
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """Nothing is held."""


async def _deliver(watching: Watching, queue: "_Queue") -> None:
    try:
        await watching.run(queue)
    finally:
        queue.end()


def _refused(reply: Reply) -> StatusError:
    if reply.status < 400:
        return bad_request("the path does not name a collection that can be watched")
    return StatusError.from_status(orjson.loads(reply.body))


class _Queue(Mailbox[Event]):
    """A sink that is read as an iterator."""

    def emit(self, events: Sequence[Event]) -> None:
        self.put(events)

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __anext__(self) -> WatchEvent:
        if not await self.arrival():
            raise StopAsyncIteration
        event = self.items.popleft()
        self.taken()
        return WatchEvent(event.type, event.rendered.obj)  # type: ignore[arg-type]

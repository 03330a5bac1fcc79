"""One transport to several servers: whichever answers.

One server is the current one, and stays it until it fails, so that a client reads its own writes. What was surely not
sent, and every read, is tried on the next server at once; a write whose answer was lost is the caller's to repeat.

A server is given up when no connection can be made, or when it takes a connection and does not answer (it is frozen,
or its packets are dropped). Its connections are closed then: watches and calls that hang there fail at once and start
again on the new one, instead of waiting for their own time-outs. A server that answers 503 is only doubted, since the
others may say the same: it is given up when another one has taken a write.

The only server is never given up. But when it answers again after a while, the watches from before are broken: a cut
that was no more than dropped packets leaves them silent until both ends have noticed, which takes half a minute.
"""

import asyncio
import errno
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.http import HttpTransport, was_not_sent
from corral.kinds.status import StatusError

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 0.9
"""Calls that their callers abandon after so long together, without any answer in between, speak against their server: a
renewal of one second may be two calls."""
OUTAGE_SECONDS: Final = 3.0
"""After so long without any answer watches are not trusted any more."""
_UNAVAILABLE: Final = 503


class FailoverTransport:
    """Carries requests to one of `servers` (URLs, at least one), the first of them to begin with.

    Args:
        connect: makes the transport to one server.
    """

    def __init__(self, servers: Sequence[str], connect: Callable[[str], HttpTransport]) -> None:
        self._servers = tuple(servers)
        self.current = servers[0]
        """The server that is asked first."""
        self._connect = connect
        self._opened: dict[str, HttpTransport] = {}
        self._doubted: set[str] = set()
        self._waited = defaultdict[str, float](float)
        self._closing: set[asyncio.Task[None]] = set()
        self._silent_since: float | None = None

    @property
    def servers(self) -> tuple[str, ...]:
        """All of them, the current one first, in the order in which they would be tried."""
        if self.current not in self._servers:
            return (self.current, *self._servers)
        at = self._servers.index(self.current)
        return self._servers[at:] + self._servers[:at]

    def use(self, servers: Sequence[str]) -> None:
        """From now on these are the servers; the current one is kept until it fails."""
        self._servers = tuple(servers)

    async def call(self, request: ApiRequest) -> ApiResponse:
        """Perform one request.

        Raises:
            OSError: no server could be reached, or the connection broke. Its `errno` is ECONNREFUSED only if all
                refused.
        """
        failures: list[OSError] = []
        for server in self.servers:
            try:
                response = await self._ask(server, request)
            except OSError as error:
                failures.append(error)
                if not was_not_sent(error) and request.method != "GET":
                    break
                continue
            self._judge(server, request, response.status)
            return response
        raise _worst(failures)

    async def _ask(self, server: str, request: ApiRequest) -> ApiResponse:
        clock = asyncio.get_running_loop()
        began = clock.time()
        try:
            response = await self._to(server).call(request)
        except asyncio.CancelledError:
            self._waited[server] += clock.time() - began
            if self._waited[server] >= PATIENCE_SECONDS:
                self._failed(server, "no answer", began)
            raise
        except OSError as error:
            if was_not_sent(error) or isinstance(error.__cause__, TimeoutError):
                self._failed(server, error, began)
            raise
        self._heard(server, clock.time())
        return response

    def _failed(self, server: str, why: object, began: float) -> None:
        if self._silent_since is None:
            self._silent_since = began
        self._give_up(server, why)

    def _heard(self, server: str, now: float) -> None:
        self._waited[server] = 0.0
        since, self._silent_since = self._silent_since, None
        if since is not None and now - since >= OUTAGE_SECONDS:
            self._to(server).hang_up(since)

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Open a watch.

        Raises:
            StatusError: the server refuses it.
            OSError: no server could be reached.
        """
        async with AsyncExitStack() as stack:
            yield await self._open(stack, request)

    async def _open(self, stack: AsyncExitStack, request: ApiRequest) -> AsyncIterator[WatchEvent]:
        failures: list[OSError] = []
        for server in self.servers:
            try:
                return await stack.enter_async_context(self._to(server).watch(request))
            except StatusError as error:
                self._judge(server, request, error.code)
                raise
            except OSError as error:
                failures.append(error)
                if was_not_sent(error):
                    self._give_up(server, error)
        raise _worst(failures)

    def _to(self, server: str) -> HttpTransport:
        if server not in self._opened:
            self._opened[server] = self._connect(server)
        return self._opened[server]

    def _judge(self, server: str, request: ApiRequest, status: int) -> None:
        if status == _UNAVAILABLE:
            self._doubted.add(server)
            self._leave(server)
        elif self._doubted and request.method != "GET":
            doubted, self._doubted = self._doubted - {server}, set()
            for other in doubted:
                self._give_up(other, "it cannot do what others can")

    def _leave(self, server: str) -> None:
        if server == self.current:
            self.current = self.servers[1 % len(self.servers)]

    def _give_up(self, server: str, why: object) -> None:
        """Go on with the next server, and break what still waits for this one. The only one is never given up."""
        self._waited[server] = 0.0
        if self.servers == (server,):
            return
        if server == self.current:
            self._leave(server)
            logger.warning("cannot use %s, will go on with %s: %s", server, self.current, why)
        opened = self._opened.pop(server, None)
        if opened is not None:
            task = asyncio.create_task(opened.close(), name=f"close {server}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections."""
        opened, self._opened = self._opened, {}
        await asyncio.gather(*self._closing, *(transport.close() for transport in opened.values()))


def _worst(failures: Sequence[OSError]) -> OSError:
    """What to say of several failures. That nobody listens means something only if it is so everywhere."""
    return next((error for error in failures if error.errno != errno.ECONNREFUSED), failures[-1])

"""One transport to several servers: whichever answers.

One server is the current one, and stays it until it fails, so that a client reads its own writes. What was surely not
sent, and every read, is tried on the next server at once; a write whose answer was lost is the caller's to repeat.

A server is left when no connection can be made, or when it takes a connection and does not answer (it is frozen, or
its packets are dropped), and given up when another one answers: its connections are closed then, and watches and calls
that hang there fail at once and start again on the new one, instead of waiting for their own time-outs. While no other
one answers nothing would be gained: they may all be slow, and each new connection makes them slower. A server that
answers 503 is given up when another one has taken a write, since the others may say the same.

That no server can be reached is told here, once: a machine has a dozen watches and more to say, which all find out.
"""

import asyncio
import errno
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.http import HttpTransport, is_cut, was_not_sent
from corral.kinds.status import StatusError

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 0.9
"""Calls that their callers abandon after so long together, without any answer in between, speak against their server: a
renewal of one second may be two calls."""
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
        self._silent: dict[str, object] = {}
        self._unable: dict[str, object] = {}
        self._waited = defaultdict[str, float](float)
        self._closing: set[asyncio.Task[None]] = set()
        self._lost = False

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
        raise self._unreachable(failures)

    async def _ask(self, server: str, request: ApiRequest) -> ApiResponse:
        clock = asyncio.get_running_loop()
        began = clock.time()
        try:
            response = await self._to(server).call(request)
        except asyncio.CancelledError:
            self._waited[server] += clock.time() - began
            if self._waited[server] >= PATIENCE_SECONDS:
                self._fell_silent(server, "no answer")
            raise
        except OSError as error:
            if was_not_sent(error) or is_cut(error) or isinstance(error.__cause__, TimeoutError):
                self._fell_silent(server, error)
            raise
        self._waited[server] = 0.0
        return response

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
                events = await stack.enter_async_context(self._to(server).watch(request))
            except StatusError as error:
                self._judge(server, request, error.code)
                raise
            except OSError as error:
                failures.append(error)
                if was_not_sent(error):
                    self._fell_silent(server, error)
                continue
            self._judge(server, request, 200)
            return events
        raise self._unreachable(failures)

    def _to(self, server: str) -> HttpTransport:
        if server not in self._opened:
            self._opened[server] = self._connect(server)
        return self._opened[server]

    def _unreachable(self, failures: Sequence[OSError]) -> OSError:
        worst = _worst(failures)
        if not self._lost:
            self._lost = True
            logger.warning("cannot reach %s; whatever needs it will retry: %s", " or ".join(self.servers), worst)
        return worst

    def _fell_silent(self, server: str, why: object) -> None:
        self._waited[server] = 0.0
        if self.servers != (server,):
            self._silent[server] = why
            self._leave(server)

    def _judge(self, server: str, request: ApiRequest, status: int) -> None:
        """Hear that `server` has answered."""
        if self._lost:
            self._lost = False
            logger.warning("reached %s again", server)
        if status == _UNAVAILABLE:
            self._unable[server] = "it cannot do what others can"
            self._leave(server)
            return
        worse, self._silent = self._silent, {}
        if request.method != "GET":
            worse, self._unable = worse | self._unable, {}
        for other, why in worse.items():
            if other != server:
                self._give_up(other, why)

    def _leave(self, server: str) -> None:
        """Ask the next one first."""
        if server == self.current:
            self.current = self.servers[1 % len(self.servers)]

    def _give_up(self, server: str, why: object) -> None:
        """Break what still waits for it."""
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

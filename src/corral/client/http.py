"""The transport over HTTPS.

One pooled session carries calls and watches. A watch is a stream of JSON documents, one a line; lines may be of any
length. Whatever goes wrong below HTTP becomes an `OSError`, as the seam demands.

A slow server and a cut network both say nothing, but the kernel knows which it is: the machine of a slow server
acknowledges packets. Connections to a slow server are kept, since each new one makes it slower. After a cut the watches
from before are broken as soon as something is heard: what the server has to say to them may lie in its kernel until
packets are sent again, which takes as long as the cut did.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp
import orjson
from yarl import URL

from corral.client.api import ApiRequest, ApiResponse, WatchEvent
from corral.client.client import decode
from corral.kinds.health import HEARTBEATS
from corral.wire.sockets import guarded

_CONNECT_SECONDS: Final = 10.0
_ACKNOWLEDGE_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 60.0
_HEARTBEAT_SECONDS: Final = 30.0
_HEARTBEATS: Final = 3
"""That may be under way at once: each one after the first needs a connection of its own, and a server that has answered
none of these will not be quicker for more."""
_IDLE_SECONDS: Final = 60.0
"""How long a connection that nobody uses is kept: for several of the slowest heartbeats, which come every ten seconds
and may be late on a busy machine; a new one is a handshake. The server keeps them for longer."""
_KEEPALIVE: Final = ((socket.SO_KEEPALIVE, 1),)
_KEEPALIVE_TCP: Final = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A silent watch finds out within 30 s that its peer is gone, as client-go's HTTP/2 pings do."""
_CUT: Final = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)


class HttpTransport:
    """Carries requests to one API server, as the holder of a bearer token or of the context's client certificate.

    Args:
        server_url: `https://host:port`, optionally with a path prefix.
        ssl_context: trust and, if there is one, the client certificate; None for plain HTTP.
        token: a bearer token, or empty.
        server_name: the name that the server's certificate must have, if not the URL's host.
        connect_seconds: how long a connection may take to come about, TLS included.
        acknowledge_seconds: after how long without any packet from the server's machine the network counts as cut.
        connections: how many calls may be under way at once; watches and heartbeats are not counted.
    """

    def __init__(
        self,
        server_url: str,
        ssl_context: ssl.SSLContext | None = None,
        token: str = "",
        *,
        server_name: str = "",
        connect_seconds: float = _CONNECT_SECONDS,
        acknowledge_seconds: float = _ACKNOWLEDGE_SECONDS,
        connections: int = 100,
    ) -> None:
        self.server_url = server_url.rstrip("/")
        self._ssl = ssl_context
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._server_name = server_name or None
        self._connect_seconds = connect_seconds
        self._acknowledge_seconds = acknowledge_seconds
        self._limit = asyncio.Semaphore(connections)
        self._beats = asyncio.Semaphore(_HEARTBEATS)
        self._going: set[asyncio.Task[ApiResponse]] = set()
        self._opened: aiohttp.ClientSession | None = None
        self._reading: dict[aiohttp.ClientResponse, float] = {}
        self._cut: float | None = None
        self._closed = False

    def _session(self) -> aiohttp.ClientSession:
        """Opened on first use, because a session belongs to the running loop."""
        if self._closed:
            raise ConnectionError(f"cannot reach {self.server_url}: the connection was closed")
        if self._opened is None:
            verified = self._ssl if self._ssl is not None else True
            connector = aiohttp.TCPConnector(
                limit=0, ssl=verified, socket_factory=self._socket, keepalive_timeout=_IDLE_SECONDS
            )
            self._opened = aiohttp.ClientSession(connector=connector, headers=self._headers, auto_decompress=True)
        return self._opened

    def _socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = guarded(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._acknowledge_seconds * 1e3))
        return made

    def _url(self, request: ApiRequest) -> URL:
        url = URL(self.server_url + request.path, encoded=False)
        return url.with_query(dict(request.query)) if request.query else url

    async def call(self, request: ApiRequest) -> ApiResponse:
        """Perform one request.

        Raises:
            OSError: the server could not be reached, or the connection broke.
        """
        if not request.path.startswith(HEARTBEATS):
            async with self._limit:
                return await self._perform(request, _CALL_SECONDS)
        # Its caller gives a heartbeat up soon and sends another one. Were the connection closed with it, a server that
        # is slow would be asked for a TLS handshake each time, which is more work than the heartbeat.
        await self._beats.acquire()
        going = asyncio.create_task(self._perform(request, _HEARTBEAT_SECONDS), name="heartbeat")
        self._going.add(going)
        going.add_done_callback(self._gone)
        await asyncio.wait({going})
        if going.cancelled():  # by `close`, and not its caller with it
            raise ConnectionError(f"cannot reach {self.server_url}: the connection was closed")
        return going.result()

    def _gone(self, going: "asyncio.Task[ApiResponse]") -> None:
        self._going.discard(going)
        self._beats.release()
        if not going.cancelled():
            going.exception()  # whoever asked may not be there any more

    async def _perform(self, request: ApiRequest, seconds: float) -> ApiResponse:
        headers = {"Accept": request.accept}
        if request.body:
            headers["Content-Type"] = request.content_type
        timeout = aiohttp.ClientTimeout(total=seconds, connect=self._connect_seconds)
        try:
            async with self._session().request(
                request.method,
                self._url(request),
                data=request.body or None,
                headers=headers,
                timeout=timeout,
                server_hostname=self._server_name,
            ) as response:
                date = response.headers.get("Date", "")
                self._heard()
                with self._read(response):
                    return ApiResponse(response.status, await response.read(), response.content_type, date)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    @asynccontextmanager
    async def watch(self, request: ApiRequest) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """Open a watch.

        Raises:
            StatusError: the server refuses it.
            OSError: the server could not be reached.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds)
        try:
            response = await self._session().get(
                self._url(request),
                headers={"Accept": request.accept},
                timeout=timeout,
                server_hostname=self._server_name,
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            if response.status != 200:
                decode(ApiResponse(response.status, await response.read()))
            _keep_alive(response)
            events = self._events(response)
            with self._read(response):
                try:
                    yield events
                finally:
                    await events.aclose()
        finally:
            response.close()

    @contextmanager
    def _read(self, response: aiohttp.ClientResponse) -> Iterator[None]:
        self._reading[response] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._reading[response]

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[WatchEvent, None]:
        pending = bytearray()
        try:
            async for chunk in response.content.iter_any():
                scanned = len(pending)
                pending += chunk
                start = 0
                while (end := pending.find(b"\n", max(start, scanned))) >= 0:
                    line = bytes(pending[start:end])
                    start = end + 1
                    if line.strip():
                        event = orjson.loads(line)
                        yield WatchEvent(event["type"], event["object"])
                del pending[:start]
        except orjson.JSONDecodeError as error:
            raise ConnectionError(f"cannot read the watch of {self.server_url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _heard(self) -> None:
        before, self._cut = self._cut, None
        if before is not None:
            self._hang_up(before)

    def _unreachable(self, error: BaseException) -> OSError:
        if is_cut(error):
            self._cut = asyncio.get_running_loop().time()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            return error
        return ConnectionError(f"cannot reach {self.server_url}: {error or type(error).__name__}")

    def _hang_up(self, before: float) -> None:
        """Break the watches, and the calls that are being answered, which began before then (by the loop's clock)."""
        for response, began in list(self._reading.items()):
            if began < before:
                response.close()

    async def close(self) -> None:
        """Close all connections, for good; whoever waits for an answer, an event or its turn gets an OSError."""
        self._closed = True
        # A session that is closed leaves the readers of its answers waiting (aiohttp 3.14).
        self._hang_up(float("inf"))
        for going in self._going:
            going.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        if self._opened is not None:
            await self._opened.close()


def was_not_sent(error: OSError) -> bool:
    """Whether the request surely never reached a server: no connection was made."""
    timed_out = isinstance(error.__cause__, aiohttp.ConnectionTimeoutError)
    return timed_out or isinstance(error, aiohttp.ClientConnectorError)


def is_cut(error: BaseException) -> bool:
    """Whether the network brings nothing to the server's machine, or nothing back."""
    return isinstance(error, OSError) and error.errno in _CUT


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    connection = response.connection
    transport = connection.transport if connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.SOL_SOCKET, option, value)
    for option, value in _KEEPALIVE_TCP:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)

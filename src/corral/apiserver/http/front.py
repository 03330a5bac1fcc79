"""Listens with TLS and decides who asks; connections begin in the lean lane."""

import asyncio
import logging
import resource
import ssl
import time
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from corral.apiserver.answers import refusal
from corral.apiserver.auth.api import ANONYMOUS, Authenticator, User
from corral.apiserver.decoding import BODY_LIMIT
from corral.apiserver.http.connection import Connection
from corral.apiserver.http.heads import HEAD_LIMIT
from corral.apiserver.http.lane import FullLane, respond
from corral.apiserver.server import ApiServer
from corral.kinds.status import StatusError, unauthorized

log = logging.getLogger(__name__)
# aiohttp logs a traceback for each request that is not HTTP; what our handlers raise, they log themselves.
_garbage_log = logging.getLogger(f"{__name__}.garbage")
_garbage_log.setLevel(logging.CRITICAL)

REQUEST_SECONDS = 30.0
"""How long a client may take to send one request."""
IDLE_SECONDS = 300.0
"""How long a connection may be silent between requests."""
_SWEEP_SECONDS = 10.0
_MOST_DESCRIPTORS = 1 << 20
_BACKLOG = 1024
_WRITES = 128
"""Writes that are made at a time: more do not make a commit cheaper, and what comes meanwhile would wait for all."""
_AUTHENTICATED = "system:authenticated"


class HttpFront:
    """One listening socket of a server."""

    def __init__(self, server: ApiServer, authenticator: Authenticator, ssl_context: ssl.SSLContext) -> None:
        self.server = server
        self._date = (0, b"")
        self.connections: set[Connection] = set()
        self._authenticator = authenticator
        self._ssl = ssl_context
        self._lane = FullLane(server)
        logging.getLogger("aiohttp.server").addFilter(_is_our_fault)
        self._full = web.Server(
            self._handle_full,  # type: ignore[arg-type]
            request_factory=_request,
            access_log=None,
            logger=_garbage_log,
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
            keepalive_timeout=IDLE_SECONDS,
        )
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._most = _descriptors() // 2
        self.turns = asyncio.Semaphore(_WRITES)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was given by the system if `port` is 0.

        Raises:
            OSError: the address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self, loop),
            host,
            port,
            ssl=self._ssl,
            backlog=_BACKLOG,
            ssl_handshake_timeout=REQUEST_SECONDS,
            ssl_shutdown_timeout=1.0,
        )
        self._sweep(loop)
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self.connections):
            connection.end()
        await self._full.shutdown(1.0)
        if self._listener is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listener.wait_closed(), 2.0)

    @property
    def full(self) -> bool:
        """Whether clients hold half of the descriptors that this process may have: the rest is for the cell's work."""
        return len(self.connections) >= self._most

    @property
    def date(self) -> bytes:
        """The value of the Date field, made once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        shown = {connection.certificate for connection in self.connections}
        # Watches outlive what let them in: a certificate that is over, a machine that was removed.
        refused = {certificate for certificate in shown if certificate and self._is_refused(certificate)}
        for connection in list(self.connections):
            patience = REQUEST_SECONDS if connection.within_request else IDLE_SECONDS
            if now - connection.waiting_since > patience:
                connection.time_out()
            elif connection.certificate in refused:
                connection.end()
        self._timer = loop.call_later(_SWEEP_SECONDS, self._sweep, loop)

    def identify(self, certificate: bytes, authorization: str) -> User:
        """The holder of the certificate, else of the bearer token, else nobody in particular.

        Raises:
            StatusError: 401, a token was sent and is no good.
        """
        if certificate:
            return authenticated(self._authenticator.certificate(certificate))
        if authorization:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() == "bearer":
                return authenticated(self._authenticator.token(token.strip()))
            raise unauthorized()
        return ANONYMOUS

    def _is_refused(self, certificate: bytes) -> bool:
        try:
            self._authenticator.certificate(certificate)
        except StatusError:
            return True
        return False

    def full_http(self) -> asyncio.Protocol:
        """A protocol of aiohttp's."""
        protocol: Any = self._full()
        found: asyncio.Protocol = protocol
        return found

    async def _handle_full(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = (tls.getpeercert(True) if tls is not None else None) or b""
        try:
            user = self.identify(certificate, request.headers.get("Authorization", ""))
        except StatusError as error:
            return respond(refusal(error))
        return await self._lane.handle(request, user)


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether a complaint is worth a line: a malformed request has had its 400, and anybody can send millions."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _descriptors() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: "asyncio.Task[None]") -> web.Request:
    # Handlers are typed with the request that applications get; a bare server would make its base class.
    return web.Request(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=BODY_LIMIT)


def authenticated(user: User) -> User:
    """The user as a member of the group of everyone that has been identified."""
    if _AUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, _AUTHENTICATED), user.uid, user.extra)

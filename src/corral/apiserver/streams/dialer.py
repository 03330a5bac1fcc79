"""Carries a client's request to an agent and the answer back.

A plain answer is streamed as it comes, and the request to the agent ends when the client goes away. An upgrade (SPDY or
WebSocket) is not understood here: after the agent's 101 the two connections are joined.
"""

import logging
import ssl

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from corral.kinds.status import StatusError, unavailable
from corral.wire.raw import Hangup, accept, connect, pipe
from corral.wire.sockets import guarded

log = logging.getLogger(__name__)

# Connection-bound headers (RFC 9110, 7.6.1), those that aiohttp writes itself, and what proves the client's identity to
# us: an agent trusts the API server's certificate, and gets nobody else's secrets.
_NOT_FORWARDED = frozenset(
    (
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "host",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_RETURNED = frozenset(("connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"))
_TOKEN_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 503: "ServiceUnavailable"}
_LONGEST_REFUSAL = 8_192
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)


class NodeDialer:
    """Reaches agents over TLS with the API server's client certificate."""

    def __init__(self, ssl_context: ssl.SSLContext) -> None:
        self._ssl = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Give back idle connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def proxy(self, request: web.BaseRequest, host: str, port: int, path: str, query: str) -> web.StreamResponse:
        """Forward `request` to `https://host:port/path?query` (`query` is encoded text) and answer it.

        Raises:
            StatusError: 503, the agent cannot be reached; or the agent's own refusal, when it is plain text.
        """
        url = URL.build(scheme="https", host=host, port=port, path=path, query_string=query, encoded=True)
        headers = forwarded(request)
        upgrade = wants_upgrade(request)
        if upgrade:
            headers["Connection"], headers["Upgrade"] = "Upgrade", upgrade
        body = request.content if request.body_exists and not upgrade else None
        try:
            answer = await self._client().request(
                request.method, url, headers=headers, data=body, allow_redirects=False, read_until_eof=not upgrade
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unavailable(f"cannot reach the agent at {host}:{port}: {error or type(error).__name__}") from error
        try:
            if answer.status == 101:
                return await _join(request, answer)
            if answer.status >= 400 and not answer.content_type.startswith("application/json"):
                raise await _refusal(answer)
            return await _stream(request, answer)
        finally:
            answer.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=self._ssl, limit=0, socket_factory=guarded)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


def wants_upgrade(request: web.BaseRequest) -> str:
    """The protocol that the client wants to switch to; empty for a plain request."""
    tokens = [token.strip().lower() for token in request.headers.get("Connection", "").split(",")]
    return request.headers.get("Upgrade", "") if "upgrade" in tokens else ""


def forwarded(request: web.BaseRequest) -> "CIMultiDict[str]":
    """The client's headers as the agent gets them."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in request.headers.items():
        lower = name.lower()
        if lower in _NOT_FORWARDED or lower.startswith(("impersonate-", "x-remote-", "x-forwarded-")):
            continue
        if lower == "sec-websocket-protocol":
            value = _without_token(value)
            if not value:
                continue
        headers.add(name, value)
    return headers


def _without_token(protocols: str) -> str:
    """Browsers send a bearer token as one of the WebSocket protocols."""
    names = [name.strip() for name in protocols.split(",")]
    return ", ".join(name for name in names if not name.startswith(_TOKEN_PROTOCOL))


async def _refusal(answer: aiohttp.ClientResponse) -> StatusError:
    """The agent's words as a `Status`, which is what clients show."""
    text = (await answer.content.read(_LONGEST_REFUSAL)).decode("utf-8", "replace").strip()
    reason = _REASONS.get(answer.status, "InternalError" if answer.status >= 500 else "BadRequest")
    return StatusError(answer.status, reason, text or f"the agent answered {answer.status} {answer.reason}")


async def _join(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in ("date", "server")}
    agent = connect(answer)
    client, response = await accept(request, headers)
    try:
        await pipe(client, agent)
    finally:
        agent.close()
    return response


async def _stream(request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in answer.headers.items():
        if name.lower() not in _NOT_RETURNED:
            headers.add(name, value)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    length = answer.headers.get("Content-Length")
    if length is not None:
        response.content_length = int(length)
    response.force_close()
    if request.body_exists and not request.content.is_eof():
        # The client is still sending: its end shows in the reading of what it sends.
        await response.prepare(request)
        await _copy(answer, response)
        return response
    hangup = Hangup(request)
    await response.prepare(request)
    await hangup.run(_copy(answer, response))
    return response


async def _copy(answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    try:
        while chunk := await answer.content.readany():
            await response.write(chunk)
    except aiohttp.ClientError as error:
        # Without the last chunk the client sees that the answer was cut short.
        raise ConnectionResetError("the agent's answer was cut short") from error
    await response.write_eof()

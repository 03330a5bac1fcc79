"""The full lane: aiohttp's HTTP for streams, uploads, chunked bodies and whatever the lean lane does not take."""

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import web
from multidict import CIMultiDict

from corral.apiserver.answers import refusal
from corral.apiserver.auth.api import ANONYMOUS, User
from corral.apiserver.context import Call, Reply
from corral.apiserver.decoding import BODY_LIMIT
from corral.apiserver.http.heads import STRANGER_LIMIT, parse_query
from corral.apiserver.impersonation import PREFIX, impersonate
from corral.apiserver.mailbox import Mailbox
from corral.apiserver.routing import Target, split
from corral.apiserver.server import ApiServer, Served, stream_verb
from corral.apiserver.subresources.streams import destination
from corral.apiserver.verbs.watch import Lines
from corral.apiserver.watching import Event, Watching
from corral.kinds.status import (
    StatusError,
    bad_request,
    internal,
    method_not_allowed,
    path_not_found,
    too_large,
    unauthorized,
    unavailable,
    unsupported_media_type,
)

log = logging.getLogger(__name__)

BODY_SECONDS = 30.0
"""How long a client may take to send one body."""
_CONGESTED = 100
"""Batches of events that wait for a slow client before its watch waits too."""


class FullLane:
    """Answers aiohttp's requests with the same server."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def handle(self, request: web.Request, user: User) -> web.StreamResponse:
        """Answer a request of `user`; refusals are answers."""
        try:
            headers = [(name, value) for name, value in request.headers.items() if name.lower().startswith(PREFIX)]
            if headers:
                user = impersonate(self._server.authorizer, user, headers)
            target = split(request.rel_url.raw_path)
            if target is not None and self._server.is_stream(target):
                return await self._stream(request, user, target)
            return await self._plain(request, user)
        except StatusError as error:
            return respond(refusal(error))
        except (asyncio.CancelledError, ConnectionError, web.HTTPException):
            raise
        except Exception:
            log.exception("cannot answer %s %s", request.method, request.path)
            return respond(refusal(internal("a defect in the server; its log has the details")))

    async def _plain(self, request: web.Request, user: User) -> web.StreamResponse:
        if request.method == "OPTIONS":
            raise method_not_allowed()
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise unsupported_media_type("cannot read a compressed body; send it without Content-Encoding")
        body = await read_body(request, stranger=user == ANONYMOUS)
        headers = request.headers
        call = Call(
            request.method,
            request.rel_url.raw_path,
            user,
            parse_query(request.rel_url.raw_query_string),
            body,
            headers.get("Content-Type", ""),
            headers.get("Accept", ""),
            headers.get("User-Agent", ""),
            headers.get("If-None-Match", ""),
        )
        answer = self._server.dispatch(call)
        if isinstance(answer, Watching):
            return await self._watch(request, answer)
        reply = answer if isinstance(answer, Reply) else await answer
        return respond(reply)

    async def _watch(self, request: web.Request, watching: Watching) -> web.StreamResponse:
        lines = Lines(self._server.core, watching.ctx)
        response = web.StreamResponse(headers={"Content-Type": lines.content_type})
        self._server.metrics.watchers += 1
        outbox = _Outbox(lines)
        task = asyncio.create_task(watching.run(outbox), name="watch")
        task.add_done_callback(lambda _: outbox.end())
        try:
            await response.prepare(request)
            while data := await outbox.take():
                await response.write(data)
            await response.write_eof()
        finally:
            self._server.metrics.watchers -= 1
            task.cancel()
        return response

    async def _stream(self, request: web.Request, user: User, target: Target) -> web.StreamResponse:
        verb = stream_verb(target, request.method)
        call = Call(request.method, request.path, user)
        self._server.authorize(call, target, verb)
        served = self._server.extension(target)
        if served is not None:
            return await self._extension(request, user, target, served, verb)
        where = destination(self._server.core, target, list(request.rel_url.query.items()))
        if not where.host:
            return web.Response(content_type="text/plain")
        if self._server.node_dialer is None:
            raise unavailable(f"cannot reach the agent at {where.host}: this server has no way to its agents")
        return await self._server.node_dialer.proxy(request, where.host, where.port, where.path, where.query)

    async def _extension(
        self, request: web.Request, user: User, target: Target, served: Served, verb: str
    ) -> web.StreamResponse:
        if verb not in served.verbs and not (verb == "update" and "create" in served.verbs):
            raise method_not_allowed()
        if served.namespaced != bool(target.namespace):
            raise path_not_found()
        return await served.handler(request, user, target.namespace, target.name)


class _Outbox(Mailbox[bytes]):
    """Events for a writer that must await."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(_CONGESTED)
        self._lines = lines

    def emit(self, events: Sequence[Event]) -> None:
        self.put([self._lines.encode(events)])

    async def take(self) -> bytes:
        """What has come since; empty at the end."""
        await self.arrival()
        data = b"".join(self.items)
        self.items.clear()
        self.taken()
        return data


async def read_body(request: web.Request, *, stranger: bool = False) -> bytes:
    """The whole body; little of it is kept for a stranger.

    Raises:
        StatusError: 400, 401, 408, 413.
    """
    if (request.content_length or 0) > BODY_LIMIT:
        raise too_large(BODY_LIMIT)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.content.iter_any():
                body += part
                if stranger and len(body) > STRANGER_LIMIT:
                    raise unauthorized()
                if len(body) > BODY_LIMIT:
                    raise too_large(BODY_LIMIT)
    except TimeoutError as error:
        raise StatusError(408, "Timeout", "the request did not arrive in time; send it again") from error
    except web.HTTPException:
        raise
    except (web.RequestPayloadError, ValueError) as error:
        raise bad_request(f"cannot read the body: {error}") from error
    return bytes(body)


def respond(reply: Reply) -> web.Response:
    """A reply as aiohttp's response."""
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": reply.content_type, "Cache-Control": "no-cache, private"})
    for name, value in reply.headers:
        headers.add(name, value.replace("\r", " ").replace("\n", " "))
    response = web.Response(status=reply.status, body=reply.body, headers=headers)
    if reply.status == 413:
        response.force_close()
    return response

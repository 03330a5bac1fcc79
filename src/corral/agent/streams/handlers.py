"""The agent's HTTP handlers: who is meant, which protocol, and then the streams."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from aiohttp import web

from corral.agent.runtime.api import Process, Runtime
from corral.agent.streams import netns, portforward, spdy_client, websocket_client
from corral.agent.streams.connection import Connection
from corral.agent.streams.remotecommand import Client, Options, failure_word, serve
from corral.agent.streams.spdy import SpdyError
from corral.agent.streams.tunnel import WebSocketBytes
from corral.base.errors import CorralError
from corral.kinds.status import StatusError, bad_request
from corral.wire.raw import accept, is_gone

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Start: TypeAlias = Callable[[Options], Awaitable[Process]]
_Attend: TypeAlias = Callable[[Client], Awaitable[None]]
# A paste into a terminal is one message; kubectl's own are 32 KiB.
_LARGEST_MESSAGE = 16 * 1024 * 1024


class FindContainer(Protocol):
    """Finds a pod's container that runs; `uid` and `container` may be empty (any; the only or the default one)."""

    def __call__(self, namespace: str, pod: str, uid: str, container: str) -> str:
        """The container's id.

        Raises:
            StatusError: 404 or 400, it is not there or does not run.
        """


class FindSandbox(Protocol):
    """Finds a pod's sandbox; `uid` may be empty."""

    def __call__(self, namespace: str, pod: str, uid: str) -> str:
        """The sandbox's id.

        Raises:
            StatusError: 404, it is not there.
        """


def exec_handler(runtime: Runtime, find_container: FindContainer) -> Handler:
    """Runs a command in a container (`?command=...&stdin=1&stdout=1&stderr=1&tty=1`)."""

    async def start(container: str, options: Options) -> Process:
        return await runtime.exec(container, options.command, tty=options.tty, stdin=options.stdin)

    async def handle(request: web.Request) -> web.StreamResponse:
        options = Options.parse(request.query, request.query.getall("command", []))
        if not options.command:
            raise bad_request("you must specify at least 1 command")
        container = _container(request, find_container)
        return await _remote_command(request, options, functools.partial(start, container))

    return _refusing(handle)


def attach_handler(runtime: Runtime, find_container: FindContainer) -> Handler:
    """Joins a client to a container's main process."""

    async def start(container: str, options: Options) -> Process:
        return await runtime.attach(container, stdin=options.stdin)

    async def handle(request: web.Request) -> web.StreamResponse:
        options = Options.parse(request.query, ())
        container = _container(request, find_container)
        return await _remote_command(request, options, functools.partial(start, container), attached=True)

    return _refusing(handle)


def port_forward_handler(runtime: Runtime, find_sandbox: FindSandbox) -> Handler:
    """Forwards connections to ports of a pod, over SPDY or over SPDY in a WebSocket."""

    async def handle(request: web.Request) -> web.StreamResponse:
        route = request.match_info
        sandbox = find_sandbox(route["namespace"], route["pod"], route.get("uid", ""))
        dial = functools.partial(netns.connect, runtime.network_namespace(sandbox))
        if _is_websocket(request):
            return await _tunnel(request, dial)
        protocol = request.headers.get(spdy_client.HEADER, portforward.PROTOCOL)
        if portforward.PROTOCOL not in [name.strip() for name in protocol.split(",")]:
            return _no_protocol([portforward.PROTOCOL])
        connection, response = await _accept_spdy(request, portforward.PROTOCOL)
        await _quietly(portforward.serve(connection, dial))
        return response

    return _refusing(handle)


def _refusing(handle: Handler) -> Handler:
    async def refusing(request: web.Request) -> web.StreamResponse:
        try:
            return await handle(request)
        except StatusError as error:
            return web.json_response(error.status(), status=error.code)
        except ConnectionError:
            log.debug("the client of %s went away", request.path)
            raise

    return refusing


def _container(request: web.Request, find: FindContainer) -> str:
    route = request.match_info
    return find(route["namespace"], route["pod"], route.get("uid", ""), route.get("container", ""))


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def _remote_command(
    request: web.Request, options: Options, start: _Start, *, attached: bool = False
) -> web.StreamResponse:
    async def attend(client: Client) -> None:
        try:
            process = await start(options)
        except (CorralError, OSError) as error:
            doing = "attaching to" if attached else "executing command in"
            said = error.message if isinstance(error, CorralError) else error
            with contextlib.suppress(ConnectionError):
                await client.finish(failure_word(f"error {doing} container: {said}", client.version))
            return
        await serve(process, client, options, attached=attached)

    if _is_websocket(request):
        return await _over_websocket(request, attend)
    return await _over_spdy(request, options, attend)


async def _over_spdy(request: web.Request, options: Options, attend: _Attend) -> web.StreamResponse:
    protocol = spdy_client.negotiate(request.headers.getall(spdy_client.HEADER, []))
    if not protocol:
        return _no_protocol(list(spdy_client.PROTOCOLS))
    connection, response = await _accept_spdy(request, protocol)
    gathering = spdy_client.Gathering(connection, options, spdy_client.PROTOCOLS[protocol])
    reading = asyncio.create_task(_quietly(connection.run(gathering.opened)), name="spdy read")
    try:
        client = await gathering.client()
        if client is not None:
            await attend(client)
        else:
            log.info("the client of %s did not open its streams", request.path)
    finally:
        await connection.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return response


async def _accept_spdy(request: web.Request, protocol: str) -> tuple[Connection, web.StreamResponse]:
    if request.headers.get("Upgrade", "").lower() != "spdy/3.1":
        raise bad_request("unable to upgrade: missing upgrade headers in request (Upgrade: SPDY/3.1 or websocket)")
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", spdy_client.HEADER: protocol}
    raw, response = await accept(request, headers)
    return Connection(raw), response


def _no_protocol(known: list[str]) -> web.StreamResponse:
    response = web.Response(status=403, text=f"unable to upgrade: no protocol in common; known are {', '.join(known)}")
    for name in known:
        response.headers.add("X-Accepted-Stream-Protocol-Versions", name)
    return response


async def _over_websocket(request: web.Request, attend: _Attend) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=tuple(websocket_client.PROTOCOLS), compress=False, max_msg_size=_LARGEST_MESSAGE, autoping=True
    )
    await socket.prepare(request)
    client = websocket_client.WebSocketClient(socket, lambda: is_gone(request.transport))
    reading = asyncio.create_task(client.run(), name="websocket read")
    try:
        await client.greet()
        await attend(client)
        # The client answers our closing; its reader ends then.
        await asyncio.wait((reading,), timeout=5)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return socket


async def _tunnel(request: web.Request, dial: portforward.Dial) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=(portforward.TUNNEL_PROTOCOL,), compress=False, max_msg_size=_LARGEST_MESSAGE, autoping=True
    )
    if not socket.can_prepare(request).protocol:
        raise bad_request(f"port forwarding over a WebSocket takes the protocol {portforward.TUNNEL_PROTOCOL}")
    await socket.prepare(request)
    await _quietly(portforward.serve(Connection(WebSocketBytes(socket)), dial))
    await socket.close()
    return socket


async def _quietly(work: Awaitable[None]) -> None:
    """A peer that breaks the protocol loses its connection; that is no failure of ours."""
    try:
        await work
    except SpdyError as error:
        log.info("%s", error)

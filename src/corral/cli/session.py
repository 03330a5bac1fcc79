"""One command's connection to a cell: the client, and the raw streams that a plain client has no verb for."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import aiohttp
import click

from corral.base.errors import CorralError
from corral.cli import terminal
from corral.client.client import Client
from corral.client.kubeconfig import Access, load
from corral.kinds.status import StatusError
from corral.wire.sockets import guarded

DEFAULT_DATA_DIR = Path("/var/lib/corral")
_ANSWER_SECONDS = 2.0
EXIT_CORRAL = 125
"""Docker's code for "the error is ours, not the program's"."""

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Session:
    """The client, the HTTP session beside it, and the namespace that the command works in."""

    client: Client
    server: str
    http: aiohttp.ClientSession
    namespace: str

    @asynccontextmanager
    async def open(
        self, path: str, query: Mapping[str, str] | None = None, *, method: str = "GET", data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A raw request whose answer is read as a stream.

        Raises:
            StatusError: the server refused.
        """
        async with self.http.request(method, self.server + path, params=query, data=data) as response:
            if response.status >= 400:
                raise await refusal(response)
            yield response

    @asynccontextmanager
    async def websocket(
        self, path: str, query: list[tuple[str, str]], protocols: tuple[str, ...]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket to a streaming subresource."""
        try:
            async with self.http.ws_connect(
                self.server + path, params=query, protocols=protocols, max_msg_size=0
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise StatusError(error.status, "InternalError", f"cannot open a stream: {error.message}") from error


async def refusal(response: aiohttp.ClientResponse) -> StatusError:
    """The error that a response with a `Status` body, or without one, stands for."""
    try:
        return StatusError.from_status(await response.json(content_type=None))
    except (ValueError, AttributeError):
        return StatusError(response.status, "InternalError", f"the server answered {response.status} {response.reason}")


def kubeconfig_path(kubeconfig: str | None, data_dir: str | None) -> Path | None:
    """Which kubeconfig to read: the flag, the cell of `--data-dir`, $KUBECONFIG, the default cell, kubectl's own.

    None leaves the choice to the client (`$KUBECONFIG`, then `~/.kube/config`).
    """
    if kubeconfig:
        return Path(kubeconfig)
    if data_dir:
        return Path(data_dir) / "kubeconfig"
    if os.environ.get("KUBECONFIG"):
        return None
    default = DEFAULT_DATA_DIR / "kubeconfig"
    return default if default.exists() else None


@asynccontextmanager
async def connect(kubeconfig: str | None, data_dir: str | None, namespace: str | None) -> AsyncIterator[Session]:
    """Open a session.

    Raises:
        CorralError: no cell is configured, or its kubeconfig cannot be read.
    """
    path = kubeconfig_path(kubeconfig, data_dir)
    if path is not None and not path.exists():
        raise CorralError(f"cannot read {path}: no such file", "start a cell with `corral up`, or name its --data-dir")
    access = load(path)
    context = access.ssl_context()
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
    connector = aiohttp.TCPConnector(limit=0, ssl=context if context is not None else True, socket_factory=guarded)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    try:
        async with AsyncExitStack() as stack:
            http = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)
            await stack.enter_async_context(http)
            access = replace(access, server=await _answering(http, access))
            transport = access.transport()
            stack.push_async_callback(transport.close)
            yield Session(Client(transport, field_manager="corral"), access.server, http, namespace or access.namespace)
    except BrokenPipeError:  # nobody reads on (`| head`), which click ends quietly
        raise
    except (aiohttp.ClientConnectorError, ConnectionError) as error:
        raise CorralError(
            f"cannot reach the cell at {access.server}: {error}",
            "start it with `corral up`, or choose another with --data-dir or --kubeconfig",
        ) from error


async def _answering(http: aiohttp.ClientSession, access: Access) -> str:
    """The first server that answers at all; the one that the kubeconfig names if it is the only one, or none does."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    for server in (access.server, *access.others) if access.others else ():
        try:
            async with http.get(f"{server}/livez", timeout=timeout):
                if server != access.server:
                    terminal.note(f"{access.server} does not answer; using {server}")
                return server
        except (aiohttp.ClientError, OSError):
            continue
    return access.server


def connected(
    function: Callable[Concatenate[Session, P], Awaitable[int | None]],
) -> Callable[..., None]:
    """Make a click command's body of a coroutine that takes a `Session` first and returns an exit code."""

    @click.option("-n", "--namespace", metavar="NS", help="Namespace to work in.")
    @click.option("--kubeconfig", metavar="FILE", help="Kubeconfig of the cell.")
    @click.option(
        "--data-dir", metavar="DIR", envvar="CORRAL_DATA_DIR", help="Data directory of a cell on this machine."
    )
    @wraps(function)
    def command(
        *args: Any, namespace: str | None, kubeconfig: str | None, data_dir: str | None, **options: Any
    ) -> None:
        async def body() -> int | None:
            async with connect(kubeconfig, data_dir, namespace) as session:
                return await function(session, *args, **options)

        perform(body())

    return command


def perform(coroutine: Coroutine[Any, Any, int | None]) -> None:
    """Run a command's coroutine and end the process with its exit code, as `finish` does."""
    from corral.wire.loops import run

    finish(lambda: run(coroutine))


def finish(work: Callable[[], int | None]) -> None:
    """Do a command's work and end the process with its exit code; errors are said on stderr, with code 125."""
    try:
        code = work()
    except CorralError as error:
        terminal.error(error)
        code = EXIT_CORRAL
    except aiohttp.ClientError as error:
        terminal.error(CorralError(f"cannot talk to the cell: {error}", "see whether it runs with `corral status`"))
        code = EXIT_CORRAL
    except KeyboardInterrupt:
        code = 130
    raise SystemExit(code or 0)

"""The other servers of a cell, as this one asks them for what lies on their disks."""

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aiohttp

from corral.wire.sockets import guarded

_log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 3.0
_SILENT_SECONDS: Final = 30.0
_COPY_SECONDS: Final = 60.0
_CHUNK: Final = 1 << 20
_OK: Final = 200


class Peers:
    """`corral.apiserver.sources.Peers` over HTTPS.

    Args:
        others: their URLs, the most likely to answer first.
        trust: TLS as a member of `system:masters`.
    """

    def __init__(self, others: Callable[[], Sequence[str]], trust: ssl.SSLContext) -> None:
        self._others = others
        self._trust = trust

    @asynccontextmanager
    async def source(self, namespace: str, digest: str) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """The bytes of an upload that one of them has; None if none has, or can be reached.

        Raises:
            OSError: the connection broke midway.
        """
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        async with AsyncExitStack() as stack:
            response = await self._first(stack, timeout, "GET", f"{_path(namespace, digest)}?local=true")
            yield None if response is None else _chunks(response)

    async def keep(self, namespace: str, digest: str) -> None:
        """Have one of them fetch an upload from here, if one can; the next best if the first does not answer."""
        timeout = aiohttp.ClientTimeout(total=_COPY_SECONDS, connect=_CONNECT_SECONDS)
        async with AsyncExitStack() as stack:
            await self._first(stack, timeout, "HEAD", f"{_path(namespace, digest)}?keep=true")

    async def _first(
        self, stack: AsyncExitStack, timeout: aiohttp.ClientTimeout, method: str, path: str
    ) -> aiohttp.ClientResponse | None:
        """The first answer of theirs that is a good one."""
        connector = aiohttp.TCPConnector(ssl=self._trust, socket_factory=guarded)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
        for server in self._others():
            try:
                response = await stack.enter_async_context(session.request(method, server + path))
            except (aiohttp.ClientError, OSError) as error:
                _log.warning("cannot ask %s: %s", server, error or type(error).__name__)
                continue
            if response.status == _OK:
                return response
        return None


def _path(namespace: str, digest: str) -> str:
    return f"/apis/corral.dev/v1/namespaces/{namespace}/sources/{digest}"


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionError(f"cannot fetch {response.url}: {error or type(error).__name__}") from error

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
_CHUNK: Final = 1 << 20


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
        path = f"/apis/corral.dev/v1/namespaces/{namespace}/sources/{digest}?local=true"
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
        async with AsyncExitStack() as stack:
            connector = aiohttp.TCPConnector(ssl=self._trust, socket_factory=guarded)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, timeout=timeout))
            for server in self._others():
                response = await _get(stack, session, server + path)
                if response is not None:
                    yield _chunks(response)
                    return
            yield None


async def _get(stack: AsyncExitStack, session: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse | None:
    try:
        response = await stack.enter_async_context(session.get(url))
    except (aiohttp.ClientError, OSError) as error:
        _log.warning("cannot ask %s: %s", url, error or type(error).__name__)
        return None
    return response if response.status == 200 else None


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionError(f"cannot fetch {response.url}: {error or type(error).__name__}") from error

"""A TLS handshake that fails must not end anybody else's connection (the defect that `guarded` guards against)."""

import asyncio
import contextlib
import gc
import socket
import ssl
from pathlib import Path

import aiohttp
from aiohttp import web

from corral.apiserver.auth.pki import Pki, client_context
from corral.wire.sockets import guarded


async def test_descriptors_stay_whose_they_are(tmp_path: Path) -> None:
    ours, foreign = Pki.open(tmp_path / "ours", hosts=[]), Pki.open(tmp_path / "foreign", hosts=[])

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="here")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    await web.SockSite(runner, listening, ssl_context=ours.server_context()).start()

    async def ask(session: aiohttp.ClientSession, trust: ssl.SSLContext) -> str:
        async with session.get(f"https://127.0.0.1:{port}/", ssl=trust) as response:
            return await response.text()

    connector = aiohttp.TCPConnector(socket_factory=guarded)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(10):
            with contextlib.suppress(aiohttp.ClientError):
                await ask(session, client_context(foreign.ca_pem))
            answers = await asyncio.gather(*(ask(session, client_context(ours.ca_pem)) for _ in range(5)))
            gc.collect()
            assert answers == ["here"] * 5
    await runner.cleanup()

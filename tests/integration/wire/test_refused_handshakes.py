"""A TLS handshake that fails must not end anybody else's connection (the defect that `guarded` guards against)."""

import contextlib
import gc
import os
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
        refusals: list[Exception] = []
        for _ in range(10):
            try:
                await ask(session, client_context(foreign.ca_pem))
            except aiohttp.ClientError as error:
                # Its traceback keeps the socket.
                refusals.append(error)
        assert len(refusals) == 10
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context((tmp_path / f"{n}").open("wb")) for n in range(40)]
            refusals.clear()
            gc.collect()
            for file in files:
                os.fstat(file.fileno())
        assert await ask(session, client_context(ours.ca_pem)) == "here"
    await runner.cleanup()

"""The dialer against an agent that misbehaves, listens to headers, or is not there."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from corral.apiserver.auth.pki import Pki, client_context
from corral.apiserver.streams import NodeDialer
from corral.kinds.status import StatusError

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Bench:
    """A front whose every request goes to one agent handler."""

    def __init__(self, pki: Pki) -> None:
        self.pki = pki
        self.dialer = NodeDialer(pki.client_context("kube-apiserver-kubelet-client", []))
        self.agent: Handler | None = None
        self.agent_port = 0
        self.port = 0
        self.runners: list[web.ServerRunner] = []

    async def start(self) -> None:
        self.agent_port = await self._serve(self._agent, agent=True)
        self.port = await self._serve(self._front, agent=False)

    async def stop(self) -> None:
        await self.dialer.close()
        for runner in reversed(self.runners):
            await runner.cleanup()

    async def _serve(self, handler: Handler, *, agent: bool) -> int:
        runner = web.ServerRunner(web.Server(handler), shutdown_timeout=1)
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        context = self.pki.agent_server_context("n1", ["127.0.0.1"]) if agent else self.pki.server_context()
        await web.SockSite(runner, listening, ssl_context=context).start()
        self.runners.append(runner)
        port: int = listening.getsockname()[1]
        return port

    async def _agent(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self.agent is not None
        return await self.agent(request)

    async def _front(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self.dialer.proxy(
                request, "127.0.0.1", self.agent_port, "/x", request.rel_url.raw_query_string
            )
        except StatusError as error:
            return web.json_response(error.status(), status=error.code)

    def get(self, **kw: object) -> "aiohttp.client._RequestContextManager":
        return self._session.get(f"https://127.0.0.1:{self.port}/", ssl=client_context(self.pki.ca_pem), **kw)  # type: ignore[arg-type]

    _session: aiohttp.ClientSession


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(Pki.open(tmp_path / "pki", hosts=[]))
    await bench.start()
    async with aiohttp.ClientSession(auto_decompress=False) as bench._session:
        yield bench
    await bench.stop()


async def test_headers_query_and_body(bench: Bench) -> None:
    seen: dict[str, str] = {}

    async def agent(request: web.BaseRequest) -> web.StreamResponse:
        seen.update(request.headers, query=request.rel_url.raw_query_string, path=request.path)
        return web.Response(body=b"x" * 100_000, headers={"X-Mine": "1", "Content-Encoding": "gzip"})

    bench.agent = agent
    headers = {"Authorization": "Bearer secret", "Impersonate-User": "root", "X-Remote-User": "root", "Accept": "a/b"}
    async with bench.get(headers=headers, params={"q": "a b"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"x" * 100_000)
        assert answer.headers["X-Mine"] == "1"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Length"] == "100000"
    assert not {"Authorization", "Impersonate-User", "X-Remote-User"} & seen.keys()
    assert seen["Accept"] == "a/b"
    assert (seen["query"], seen["path"]) == ("q=a+b", "/x")


async def test_a_plain_refusal_becomes_a_status(bench: Bench) -> None:
    async def agent(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=404, text='pod "x" not found on this machine')

    bench.agent = agent
    async with bench.get() as answer:
        body = await answer.json()
    assert (answer.status, body["reason"], body["message"]) == (404, "NotFound", 'pod "x" not found on this machine')


async def test_an_answer_cut_short_is_seen_as_such(bench: Bench) -> None:
    async def agent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    bench.agent = agent
    with pytest.raises(aiohttp.ClientError):
        async with bench.get() as answer:
            await answer.read()


async def test_an_agent_that_is_not_there(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        bench.agent_port = unused.getsockname()[1]
    async with bench.get() as answer:
        body = await answer.json()
    assert (answer.status, body["reason"]) == (503, "ServiceUnavailable")
    assert f"cannot reach the agent at 127.0.0.1:{bench.agent_port}" in body["message"]


async def test_somebody_else_at_the_agents_address(bench: Bench, tmp_path: Path) -> None:
    foreign = Pki.open(tmp_path / "foreign", hosts=[])
    runner = web.ServerRunner(web.Server(bench._agent))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=foreign.server_context()).start()
    bench.agent_port = listening.getsockname()[1]
    async with bench.get() as answer:
        assert answer.status == 503
    await runner.cleanup()


async def test_many_streams_at_once(bench: Bench) -> None:
    go = asyncio.Event()

    async def agent(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        await go.wait()
        await response.write(b"b")
        return response

    bench.agent = agent

    async def one() -> bytes:
        async with bench.get() as answer:
            first = await answer.content.readexactly(1)
            started.release()
            return first + await answer.content.read()

    started = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(one()) for _ in range(50)]
    for _ in tasks:
        await asyncio.wait_for(started.acquire(), 30)
    go.set()
    assert await asyncio.gather(*tasks) == [b"ab"] * 50

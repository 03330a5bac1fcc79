"""Whatever happens to one of several servers, the next one answers."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from corral.base.backoff import Backoff
from corral.base.clock import SystemClock
from corral.client import failover
from corral.client.client import Client
from corral.client.failover import FailoverTransport
from corral.client.http import HttpTransport
from corral.client.informer import Informer
from corral.kinds.resources import CONFIG_MAPS, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

NOBODY = "http://127.0.0.1:1"
MAP: Obj = {"metadata": {"name": "a", "namespace": "default"}}
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n'


PATIENCE = 0.15


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "PATIENCE_SECONDS", PATIENCE)


class Server:
    """Says its name, unless told to misbehave. `asked` holds the methods of the requests that reached it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.asked: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.status = 200
        self.frozen = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.method)
        self.queries.append(dict(request.query))
        if self.frozen:
            await asyncio.sleep(3600)
        if "watch" in request.query and self.status == 200:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(BOOKMARK)
            await asyncio.sleep(3600)
        found = {"said": self.name, "items": [], "metadata": {"resourceVersion": "7"}}
        return web.json_response(found, status=self.status)

    async def lost(self, request: web.Request) -> web.StreamResponse:
        """The connection breaks after the request has been read."""
        self.asked.append(request.method)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest.fixture
async def start() -> AsyncIterator[Callable[[str], Awaitable[Server]]]:
    async with AsyncExitStack() as stack:

        async def started(name: str) -> Server:
            server = Server(name)
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", server.handle)
            runner = web.AppRunner(application, shutdown_timeout=0.01)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            server.url = "http://{}:{}".format(*runner.addresses[0][:2])
            return server

        yield started


Start = Callable[[str], Awaitable[Server]]


@pytest.fixture
async def open_() -> AsyncIterator[Callable[..., Client]]:
    opened: list[Client] = []

    def make(*urls: str) -> Client:
        opened.append(Client(FailoverTransport(urls, HttpTransport)))
        return opened[-1]

    yield make
    for client in opened:
        await client.close()


async def said(client: Client) -> str:
    return str((await client.get(CONFIG_MAPS, "a", "default"))["said"])


async def test_a_server_that_is_gone_costs_nothing_not_even_a_write(
    start: Start, open_: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    second = await start("second")
    client = open_(NOBODY, second.url)
    assert (await client.create(CONFIG_MAPS, MAP))["said"] == "second"
    assert client.transport.current == second.url  # type: ignore[attr-defined]
    assert f"cannot use {NOBODY}" in caplog.text
    await said(client)
    assert second.asked == ["POST", "GET"]


async def test_a_write_whose_answer_was_lost_is_not_repeated_but_a_read_is(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    first.answer = first.lost  # type: ignore[method-assign]
    client = open_(first.url, second.url)
    with pytest.raises(OSError):
        await client.create(CONFIG_MAPS, MAP)
    assert second.asked == []
    assert await said(client) == "second"


async def test_a_frozen_server_is_given_up_with_all_that_hangs_on_it(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    async with client.watch(PODS, "default") as events:
        assert (await anext(events)).type == "BOOKMARK"
        first.frozen = True
        hanging = asyncio.create_task(client.create(CONFIG_MAPS, MAP))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(PATIENCE + 0.05):
                await said(client)
        assert await said(client) == "second"
        async with asyncio.timeout(1):
            with pytest.raises(OSError):
                await anext(events)
            with pytest.raises(OSError):
                await hanging
    async with client.watch(PODS, "default") as events:
        assert (await anext(events)).type == "BOOKMARK"
    assert second.asked == ["GET", "GET"]


async def test_what_hangs_on_a_silent_server_stands_while_no_other_one_answers(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    async with client.watch(PODS, "default") as events:
        await anext(events)
        first.frozen = second.frozen = True
        for server in (first, second, first):
            assert client.transport.current == server.url  # type: ignore[attr-defined]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE + 0.05):
                    await said(client)
        waiting = asyncio.ensure_future(anext(events))
        assert not (await asyncio.wait({waiting}, timeout=0.05))[0]
        second.frozen = False
        assert await said(client) == "second"
        async with asyncio.timeout(1):
            with pytest.raises(OSError):
                await waiting


async def test_a_call_that_its_caller_soon_abandons_says_nothing_of_the_server(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    first.frozen = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(PATIENCE / 3):
            await said(client)
    assert client.transport.current == first.url  # type: ignore[attr-defined]


async def test_calls_that_are_abandoned_one_after_the_other_count_together(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    for answers in (True, False):
        for _ in range(2):
            first.frozen = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE * 0.55):
                    await said(client)
            first.frozen = False
            if answers:
                assert await said(client) == "first"
    assert await said(client) == "second"


async def test_who_cannot_write_is_left_when_another_one_can(start: Start, open_: Callable[..., Client]) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    async with client.watch(PODS, "default") as events:
        await anext(events)
        first.status = second.status = 503
        for _ in range(3):
            with pytest.raises(StatusError):
                await client.create(CONFIG_MAPS, MAP)
        waiting = asyncio.ensure_future(anext(events))
        assert not (await asyncio.wait({waiting}, timeout=0.05))[0], "the watch stands while nobody is better"
        second.status = 200
        while (await _tried(client)) != "second":
            pass
        async with asyncio.timeout(1):
            with pytest.raises(OSError):
                await waiting


async def _tried(client: Client) -> str:
    try:
        return str((await client.create(CONFIG_MAPS, MAP))["said"])
    except StatusError:
        return ""


async def test_that_nobody_listens_is_said_only_if_it_is_so_everywhere(
    start: Start, open_: Callable[..., Client]
) -> None:
    with pytest.raises(OSError) as everywhere:
        await said(open_(NOBODY, "http://127.0.0.1:2"))
    assert everywhere.value.errno == errno.ECONNREFUSED
    broken = await start("broken")
    broken.answer = broken.lost  # type: ignore[method-assign]
    with pytest.raises(OSError) as mixed:
        await said(open_(NOBODY, broken.url))
    assert mixed.value.errno != errno.ECONNREFUSED


async def test_that_nobody_can_be_reached_is_told_once(
    start: Start, open_: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = open_(NOBODY)
    for _ in range(3):
        with pytest.raises(OSError):
            await said(client)
        with pytest.raises(OSError):
            async with client.watch(PODS, "default"):
                pass
    second = await start("second")
    client.transport.use((NOBODY, second.url))  # type: ignore[attr-defined]
    for _ in range(2):
        await said(client)
    told = [record.getMessage() for record in caplog.records if "reach" in record.getMessage()]
    assert len(told) == 2
    assert told[0].startswith(f"cannot reach {NOBODY}; whatever needs it will retry: ")
    assert told[1] == f"reached {second.url} again"


async def test_the_only_server_is_never_given_up(start: Start, open_: Callable[..., Client]) -> None:
    first = await start("first")
    client = open_(first.url)
    async with client.watch(PODS, "default") as events:
        await anext(events)
        first.frozen = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(PATIENCE + 0.05):
                await said(client)
        waiting = asyncio.ensure_future(anext(events))
        assert not (await asyncio.wait({waiting}, timeout=0.05))[0]
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_servers_that_are_learned_are_tried_and_the_current_one_is_kept(
    start: Start, open_: Callable[..., Client]
) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url)
    client.transport.use((second.url, NOBODY))  # type: ignore[attr-defined]
    assert await said(client) == "first"
    assert client.transport.servers == (first.url, second.url, NOBODY)  # type: ignore[attr-defined]
    first.answer = first.lost  # type: ignore[method-assign]
    assert await said(client) == "second"


async def test_a_copy_goes_on_at_another_server_where_it_was(start: Start, open_: Callable[..., Client]) -> None:
    first, second = await start("first"), await start("second")
    client = open_(first.url, second.url)
    retry = Backoff(initial=0.01, maximum=0.01)
    informer = Informer(client, PODS, clock=SystemClock(), rng=random.Random(1), retry=retry)
    following = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(5):
            await informer.synced.wait()
            while len(first.asked) < 2:  # noqa: ASYNC110 - what is awaited has no event
                await asyncio.sleep(0.01)
            first.frozen = True
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(PATIENCE + 0.05):
                    await said(client)
            await said(client)
            while len(second.asked) < 2:  # noqa: ASYNC110 - what is awaited has no event
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await asyncio.wait({following})
    assert [query.get("watch") for query in first.queries[:2]] == [None, "true"]
    assert [(query.get("watch"), query.get("resourceVersion")) for query in second.queries] == [
        (None, None),
        ("true", "7"),
    ], "one question, and the watch: nothing is listed again"

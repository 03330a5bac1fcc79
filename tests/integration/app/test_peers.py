"""An upload that lies on one server is fetched by the others, once, whole or not at all."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from corral.apiserver.auth.api import User
from corral.apiserver.sources import Sources
from corral.app.peers import Peers
from corral.kinds.status import StatusError

BODY = b"a program of somebody's" * 100_000
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """A server with uploads of its own. `gives` is what it says instead, if anything."""

    directory: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    gives: bytes | None = None
    breaks: bool = False
    peer: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if self.gives is None:
            info = request.match_info
            peers = Peers(lambda: [self.peer], ssl.create_default_context()) if self.peer else None
            sources = Sources(self.directory, peers)
            return await sources.handle(request, User("system:apiserver"), info["namespace"], info["name"])
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(self.gives)
        if self.breaks:
            assert request.transport is not None
            request.transport.abort()
        return response

    def hold(self, body: bytes = BODY) -> None:
        place = self.directory / "default"
        place.mkdir(parents=True)
        (place / hashlib.sha256(body).hexdigest()).write_bytes(body)


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[Server]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await server.answer(request)
        except StatusError as error:
            return web.Response(status=error.code)

    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/apis/corral.dev/v1/namespaces/{namespace}/sources/{name}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield server
    await runner.cleanup()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(Server(tmp_path / "other")) as made:
        yield made


@pytest.fixture
def mine(other: Server, tmp_path: Path) -> Sources:
    peers = Peers(lambda: ["http://127.0.0.1:1", other.url], ssl.create_default_context())
    return Sources(tmp_path / "mine", peers)


async def test_it_is_fetched_once_for_all_who_wait(mine: Sources, other: Server) -> None:
    other.hold()
    found = await asyncio.gather(*(mine.find("default", DIGEST) for _ in range(5)))
    assert {path.read_bytes() for path in found} == {BODY}
    assert other.asked == [f"/apis/corral.dev/v1/namespaces/default/sources/{DIGEST}?local=true"]


async def test_of_another_namespace_it_is_not_given(mine: Sources, other: Server) -> None:
    other.hold()
    with pytest.raises(StatusError) as refused:
        await mine.find("theirs", DIGEST)
    assert refused.value.code == 404


@pytest.mark.parametrize(
    ("gives", "breaks", "code"), [(BODY[:100], True, 503), (b"x" * len(BODY), False, 400)], ids=["part", "other bytes"]
)
async def test_what_is_not_whole_is_not_kept(
    mine: Sources, other: Server, tmp_path: Path, gives: bytes, breaks: bool, code: int
) -> None:
    other.gives, other.breaks = gives, breaks
    with pytest.raises(StatusError) as refused:
        await mine.find("default", DIGEST)
    assert refused.value.code == code
    assert list((tmp_path / "mine").rglob("*")) == []


async def test_a_server_alone_asks_nobody(tmp_path: Path) -> None:
    with pytest.raises(StatusError):
        await Sources(tmp_path).find("default", DIGEST)


async def test_an_upload_is_on_two_servers_when_it_is_acknowledged(other: Server, tmp_path: Path) -> None:
    async with served(Server(tmp_path / "mine", peer=other.url)) as mine:
        other.peer = mine.url
        async with aiohttp.ClientSession() as session:
            place = f"/apis/corral.dev/v1/namespaces/default/sources/{DIGEST}"
            assert (await session.put(mine.url + place, data=BODY)).status == 201
            assert (other.directory / "default" / DIGEST).read_bytes() == BODY
            assert other.asked == [f"{place}?keep=true"]
            other.gives = b""
            assert (await session.put(mine.url + place, data=BODY)).status == 200


async def test_an_upload_is_taken_although_no_other_server_lives(tmp_path: Path) -> None:
    async with served(Server(tmp_path / "mine", peer="http://127.0.0.1:1")) as mine, aiohttp.ClientSession() as session:
        place = f"/apis/corral.dev/v1/namespaces/default/sources/{DIGEST}"
        assert (await session.put(mine.url + place, data=BODY)).status == 201

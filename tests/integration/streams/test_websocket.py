"""WebSocket clients other than kubectl: every subprotocol, closing, going away, holding back."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType

from corral.apiserver.auth.pki import client_context

EXEC = "/api/v1/namespaces/default/pods/web/exec"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def url(cell: Any, *command: str, stdin: bool = False) -> str:
    words = "&".join(f"command={word}" for word in command)
    return f"{cell.url}{EXEC}?stdout=1&stderr=1{'&stdin=1' if stdin else ''}&{words}"


def trust(cell: Any) -> ssl.SSLContext:
    context: ssl.SSLContext = client_context(cell.pki.ca_pem)
    return context


async def collect(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """Everything until the server closes, by channel."""
    found: dict[int, bytes] = {}
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
        elif message.type is WSMsgType.TEXT:
            channel = int(message.data[0])
            found[channel] = found.get(channel, b"") + base64.b64decode(message.data[1:])
    return found


@pytest.mark.parametrize(
    "protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", "v4.base64.channel.k8s.io"]
)
async def test_output_and_exit_code(cell: Any, session: aiohttp.ClientSession, protocol: str) -> None:
    target = url(cell, "sh", "-c", "echo out;echo err >%262;exit 3".replace(" ", "%20"))
    async with session.ws_connect(target, protocols=(protocol,), ssl=trust(cell)) as socket:
        assert socket.protocol == protocol
        found = await asyncio.wait_for(collect(socket), 20)
    assert (found[1], found[2]) == (b"out\n", b"err\n")
    if protocol.startswith("v"):
        assert json.loads(found[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    else:
        assert b"exit status 3" in found[3]


async def test_v5_ends_input(cell: Any, session: aiohttp.ClientSession) -> None:
    target = url(cell, "cat", stdin=True)
    async with session.ws_connect(target, protocols=("v5.channel.k8s.io",), ssl=trust(cell)) as socket:
        await socket.send_bytes(b"\x00")
        await socket.send_bytes(b"\x00one ")
        await socket.send_bytes(b"\x00two")
        await socket.send_bytes(b"\xff\x00")
        await socket.send_bytes(b"\x00after the end")
        found = await asyncio.wait_for(collect(socket), 20)
    assert found[1] == b"one two"
    assert json.loads(found[3])["status"] == "Success"


async def test_base64_input(cell: Any, session: aiohttp.ClientSession) -> None:
    target = url(cell, "head", "-c", "5", stdin=True)
    async with session.ws_connect(target, protocols=("base64.channel.k8s.io",), ssl=trust(cell)) as socket:
        await socket.send_str("0not base64!")
        await socket.send_str("0" + base64.b64encode(b"hello").decode())
        assert (await asyncio.wait_for(collect(socket), 20))[1] == b"hello"


@pytest.mark.parametrize("typed", [0, 500_000, 3_000_000])
async def test_a_client_that_closes_or_vanishes_ends_the_process(
    cell: Any, session: aiohttp.ClientSession, typed: int
) -> None:
    target = url(cell, "sh", "-c", "echo%20here;exec%20sleep%201000", stdin=True)
    socket = await session.ws_connect(target, protocols=("v4.channel.k8s.io",), ssl=trust(cell))
    while await socket.receive_bytes() != b"\x01here\n":
        pass
    for _ in range(0, typed, 50_000):
        await socket.send_bytes(b"\x00" + bytes(50_000))
    if typed:
        connection = socket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
    else:
        await socket.close()
    (process,) = cell.runtime.processes
    assert await asyncio.wait_for(process.wait(), 30) == 137


async def test_a_client_that_does_not_read_holds_the_process_back(cell: Any, session: aiohttp.ClientSession) -> None:
    target = url(cell, "cat", "/dev/zero")
    socket = await session.ws_connect(target, protocols=("v4.channel.k8s.io",), ssl=trust(cell))
    before, now = -1, 0
    # Nobody reads: what the process has written stops growing.
    while before != now:
        await asyncio.sleep(0.2)
        processes = cell.runtime.processes
        before, now = now, _written(processes[0].pid) if processes else -2
    assert 0 < now < 64_000_000
    await socket.close()


def _written(pid: int) -> int:
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar"))


async def test_what_the_agent_gets(cell: Any, session: aiohttp.ClientSession) -> None:
    # A token among the protocols is for the API server; the agent sees the others.
    token = "base64url.bearer.authorization.k8s.io.c2VjcmV0"
    target = url(cell, "true")
    async with session.ws_connect(target, protocols=(token, "v4.channel.k8s.io"), ssl=trust(cell)) as socket:
        assert socket.protocol == "v4.channel.k8s.io"
        await collect(socket)


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        (f"{EXEC}?stdout=1&command=true", {}, 400, "missing upgrade headers"),
        (f"{EXEC}?stdout=1", {}, 400, "at least 1 command"),
        (f"{EXEC}?command=true", {}, 400, "at least 1 of stdin, stdout, stderr"),
        (f"{EXEC}?stdout=1&command=true&container=no", {}, 404, "not found"),
        (
            f"{EXEC}?stdout=1&command=true",
            {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v9"},
            403,
            "no protocol in common",
        ),
    ],
)
async def test_refusals_are_statuses(
    cell: Any, session: aiohttp.ClientSession, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    async with session.post(cell.url + path, headers=headers, ssl=trust(cell)) as answer:
        assert answer.status == status
        body = await answer.json()
    assert body["kind"] == "Status"
    assert words in body["message"]


async def test_port_forward_takes_its_own_protocol_only(cell: Any, session: aiohttp.ClientSession) -> None:
    target = f"{cell.url}/api/v1/namespaces/default/pods/web/portforward"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await session.ws_connect(target, protocols=("v4.channel.k8s.io",), ssl=trust(cell))
    assert refused.value.status == 400

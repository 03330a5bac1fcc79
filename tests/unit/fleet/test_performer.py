"""Telling people and running commands: who is told when, what a webhook gets, and that nothing of it leaks or lasts."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from corral.base.errors import CorralError
from corral.fleet.notify import payload, send
from corral.fleet.performer import addresses_in, due
from corral.fleet.remote import RemoteCommand
from corral.fleet.words import NEEDS_PERSON, notice
from corral.kinds.repairs import Attempt, Move, Notice, Repair, RepairStatus, Seen, Told

NOW = "2026-01-01T00:00:00Z"
STATUS = RepairStatus(
    phase="Repairing",
    message="no remedy has helped",
    rule="disk",
    seen=(Seen("DiskErrors", "True", "IOErrors", "5 errors of sda", NOW),),
    attempts=(Attempt("Prune", "Agent", "Failed", NOW, message="read-only"),),
    moved=(
        Move("d", "web-1", "u1", "ReplicaSet/web", "rs", NOW, "m2", "web-9"),
        Move("d", "bare", "u2", left=NOW),
        Move("d", "web-2", "u3", "ReplicaSet/web", "rs"),
    ),
)
REPAIR = Repair("m1-abc", "m1", "uid", False, False, NOW, False, STATUS, {})
NOTICE = notice(NEEDS_PERSON, REPAIR, STATUS, NOW)


def test_a_person_is_told_what_was_seen_what_was_tried_and_what_moved_where() -> None:
    assert NOTICE.title == "Corral: machine m1 needs a person"
    for said in (
        "DiskErrors=True since 2026-01-01T00:00:00Z: IOErrors: 5 errors of sda",
        "Prune  Failed: read-only",
        "d/web-1  -> web-9 on m2",
        "d/bare  gone; nothing starts it again",
        "d/web-2  still there",
        "corral repair show m1-abc",
    ):
        assert said in NOTICE.text


def test_each_is_told_of_each_notice_once_and_failures_a_few_times() -> None:
    other = Notice("Quarantined", NOW, "t", "x")
    told = {
        (NEEDS_PERSON, "ann"): Told(NEEDS_PERSON, "ann", NOW, "Sent"),
        (NEEDS_PERSON, "bob"): Told(NEEDS_PERSON, "bob", NOW, "Failed", 2),
        (NEEDS_PERSON, "eve"): Told(NEEDS_PERSON, "eve", NOW, "Failed", 5),
    }
    found = [(one.notice.reason, one.target) for one in due([NOTICE, other], ["ann", "bob", "eve"], told)]
    assert found == [(NEEDS_PERSON, "bob"), *(("Quarantined", who) for who in ("ann", "bob", "eve"))]


def test_addresses_are_lines_of_a_secret() -> None:
    data = {"ops": b"# comment\n\n https://a/b \nslack://x\n", "odd": b"\xff"}
    secret = {"data": {name: base64.b64encode(text).decode() for name, text in data.items()} | {"no": "%%%"}}
    assert addresses_in(secret) == {"ops": ["https://a/b", "slack://x"], "odd": [], "no": []}


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        if request.path == "/ok":
            assert (await request.json()) == payload(NOTICE, REPAIR)
            return web.Response()
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/ok"})
        return web.Response(status=500)

    app = web.Application()
    app.router.add_post("/{any}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_webhook_gets_the_notice_and_the_repair(site: str) -> None:
    await send(f"{site}/ok", NOTICE, REPAIR)
    assert payload(NOTICE, REPAIR)["repair"]["moved"][0]["toMachine"] == "m2"


@pytest.mark.parametrize("path", ["/secret-broken", "/moved"])
async def test_a_webhook_that_refuses_is_said_without_its_address(site: str, path: str) -> None:
    with pytest.raises(CorralError, match="the webhook answered") as error:
        await send(site + path, NOTICE, REPAIR)
    assert path not in str(error.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/secret", "http://[secret", "nothing://secret", "secret"])
async def test_what_cannot_be_sent_is_said_without_the_address(address: str) -> None:
    with pytest.raises((CorralError, OSError)) as error:
        await send(address, NOTICE, REPAIR)
    assert "secret" not in str(error.value)


async def test_a_remote_command_says_its_last_line_or_why_it_failed() -> None:
    good = RemoteCommand(lambda: [sys.executable, "-c", "print('a'); print('{machine} is on')"])
    assert await good("m1", "") == "m1 is on"
    bad = RemoteCommand(lambda: [sys.executable, "-c", "import sys; print('no such plug'); sys.exit(3)"])
    with pytest.raises(CorralError, match="ended with 3: no such plug"):
        await bad("m1", "")
    with pytest.raises(OSError):
        await RemoteCommand(lambda: ["/no/such/program"])("m1", "")


async def test_a_remote_command_that_takes_too_long_ends_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = RemoteCommand(lambda: ["sh", "-c", f"sleep 1000 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"])
    running = asyncio.create_task(command("m1", ""))
    async with asyncio.timeout(10):
        while not pids.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        for pid in map(int, pids.read_text().split()):
            while _runs(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""What is wrong with a wish to join is named, all at once, with a remedy; asked of a real server over TLS."""

import asyncio
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from corral.app.joinchecks import Findings
from corral.app.membership import Membership, enrol
from corral.app.ports import agent_port
from corral.base.checks import Check
from corral.base.clock import SystemClock
from corral.base.errors import CorralError
from corral.cli.token import issue
from corral.kinds.resources import NODES
from corral.testing.clock import FakeClock

from .conftest import Cell


def wrong(findings: Findings) -> list[str]:
    assert all(check.remedy for check in findings.checks if not check.ok)
    return [check.name for check in findings.checks if not check.ok]


async def test_nothing_is_wrong_with_a_good_line(cell: Cell) -> None:
    findings = await cell.examine()
    assert wrong(findings) == []
    assert [check.name for check in findings.checks] == [
        "name",
        "server",
        "clock",
        "CA hash",
        "certificate",
        "token",
        "free name",
    ]
    assert findings.authority.startswith(b"-----BEGIN CERTIFICATE-----")


async def test_a_server_that_is_not_there(cell: Cell) -> None:
    assert wrong(await cell.examine(server="https://127.0.0.1:1")) == ["server"]


async def test_what_is_no_server_of_a_cell(cell: Cell) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        findings = await cell.examine(server=f"http://127.0.0.1:{port}")
    assert wrong(findings) == ["server"]
    assert "no server of a cell" in findings.checks[-1].detail


async def test_another_authority(cell: Cell) -> None:
    findings = await cell.examine(pin="sha256:" + "0" * 64)
    assert wrong(findings) == ["CA hash"]
    assert findings.authority == b""
    assert "somebody is in between" in findings.checks[3].remedy
    assert wrong(await cell.examine(pin="sha256:0")) == ["CA hash"]


async def test_a_clock_that_is_off(cell: Cell) -> None:
    findings = await cell.examine(clock=FakeClock(SystemClock().now() + timedelta(seconds=90)))
    assert wrong(findings) == ["clock"]
    assert "s apart from the server's" in findings.checks[2].detail


@pytest.mark.parametrize(
    ("token", "said"),
    [("aaaaaa.bbbbbbbbbbbbbbbb", "it is unknown"), ("nonsense", "it is unknown"), ("", "ended at")],
    ids=["unknown", "malformed", "over"],
)
async def test_a_token_that_is_no_good(cell: Cell, token: str, said: str) -> None:
    findings = await cell.examine(token=token or await issue(cell.admin, -1, ""))
    assert wrong(findings) == ["token"]
    assert said in findings.checks[-1].detail
    assert findings.checks[-1].remedy.endswith("corral token create")


async def test_a_name_that_is_taken_or_impossible(cell: Cell) -> None:
    await cell.admin.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m1"}})
    findings = await cell.examine()
    assert wrong(findings) == ["free name"]
    assert "corral machine remove m1" in findings.checks[-1].remedy
    assert wrong(await cell.examine(name="Not_A_Name")) == ["name"]


async def test_an_address_that_the_certificate_does_not_name(cell: Cell) -> None:
    elsewhere = cell.url.replace("127.0.0.1", "127.0.0.99")
    findings = await cell.examine(server=elsewhere)
    assert wrong(findings) == ["certificate"]
    assert "127.0.0.1" in findings.checks[-1].remedy


async def test_all_that_is_wrong_is_said_at_once_and_nothing_is_changed(cell: Cell, tmp_path: Path) -> None:
    wanted = Membership(cell.url, "m1", {}, [], {}, "127.0.0.9")
    here = [Check("kernel", False, "Linux 4.4", "use Linux 5.6 or newer"), Check("skopeo", False, "-", "-", "wanted")]
    clock = FakeClock(SystemClock().now() - timedelta(hours=1))
    with pytest.raises(CorralError) as refused:
        await enrol(tmp_path / "m1", wanted, "aaaaaa.bbbbbbbbbbbbbbbb", cell.pki.fingerprint, clock, here=here)
    for word in ("kernel: Linux 4.4", "s apart from the server's", "token: it is unknown"):
        assert word in refused.value.message
    assert "skopeo" not in refused.value.message
    assert "kernel: use Linux 5.6" in (refused.value.remedy or "")
    assert not (tmp_path / "m1").exists()


def test_a_port_that_is_taken_and_an_address_of_another_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        taken = agent_port("127.0.0.1", port)
        assert (taken.ok, "--port" in taken.remedy) == (False, True)
    assert agent_port("127.0.0.1", 0).ok
    foreign = agent_port("192.0.2.77", 10250)
    assert (foreign.ok, "--address" in foreign.remedy) == (False, True)

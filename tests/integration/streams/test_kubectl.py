"""The real kubectl, each version, through the dialer to the agent's handlers.

Up to 1.29 kubectl speaks SPDY, later WebSocket first; newer ones are made to speak SPDY as well.
"""

import asyncio
import fcntl
import os
import pty
import socket
import struct
import termios
from pathlib import Path
from typing import Any

import pytest

KUBECTLS = sorted(Path("/usr/lib/google-cloud-sdk/bin").glob("kubectl.1.*"))
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
CASES = [pytest.param(path, {}, id=path.name) for path in KUBECTLS] + [
    pytest.param(path, SPDY, id=f"{path.name}-spdy") for path in KUBECTLS[-1:]
]
# The size and the typed line travel on streams of their own, in no order between them.
_TERMINAL_TEST = (
    'while [ "$(stty size)" != "40 100" ]; do sleep 0.02; done; read line; echo sized $line; test -t 1; exit $?'
)
pytestmark = pytest.mark.skipif(not KUBECTLS, reason="no kubectl on this machine")


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_exec_carries_output_input_and_exit_code(cell: Any, kubectl: Path, env: dict[str, str]) -> None:
    code, out, err = await cell.kubectl(
        kubectl, "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7", **env
    )
    assert (code, out) == (7, b"out\n")
    assert err.startswith(b"err\n")
    assert b"exit code 7" in err

    data = os.urandom(3_000_000)
    code, out, err = await cell.kubectl(kubectl, "exec", "-i", "web", "--", "cat", stdin=data, **env)
    assert (code, err) == (0, b"")
    assert out == data


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_what_cannot_be_executed_is_said(cell: Any, kubectl: Path, env: dict[str, str]) -> None:
    code, _, err = await cell.kubectl(kubectl, "exec", "web", "--", "no-such-program", **env)
    assert code == 1
    assert b"no-such-program: executable file not found" in err


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_cp_both_ways(cell: Any, kubectl: Path, env: dict[str, str], tmp_path: Path) -> None:
    source, there, back = tmp_path / "source", tmp_path / "there", tmp_path / "back"
    source.mkdir()
    there.mkdir()
    (source / "data").write_bytes(os.urandom(1_000_000))
    code, _, err = await cell.kubectl(kubectl, "cp", str(source / "data"), f"web:{there}/data", **env)
    assert code == 0, err
    code, _, err = await cell.kubectl(kubectl, "cp", f"web:{there}/data", str(back), **env)
    assert code == 0, err
    assert back.read_bytes() == (source / "data").read_bytes()


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_attach_joins_the_main_process(cell: Any, kubectl: Path, env: dict[str, str]) -> None:
    # The exit code of the main process is no failure of the attach.
    cell.runtime.main = ("sh", "-c", "read line; echo got $line; exit 3")
    code, out, err = await cell.kubectl(kubectl, "attach", "-i", "web", stdin=b"hello\n", **env)
    assert code == 0, err
    assert b"got hello\n" in out


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_terminal_with_size(cell: Any, kubectl: Path, env: dict[str, str]) -> None:
    master, slave = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            str(kubectl),
            *("exec", "-it", "web", "--", "sh", "-c", _TERMINAL_TEST),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**cell.environment(), **env},
            start_new_session=True,
        )
        os.close(slave)
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        os.write(master, b"go\n")
        output = await asyncio.get_running_loop().run_in_executor(None, _read_all, master)
        assert await asyncio.wait_for(process.wait(), 30) == 0, output
        assert b"sized go" in output
    finally:
        os.close(master)


def _read_all(master: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("kubectl", "env"), CASES)
async def test_port_forward(cell: Any, kubectl: Path, env: dict[str, str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Answers only when the client has ended its request: half-close arrives.
        data = await reader.read()
        writer.write(data[::-1])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(kubectl),
        *("port-forward", "pod/web", f":{target}", "--address", "127.0.0.1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**cell.environment(), **env},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line.startswith(b"Forwarding from 127.0.0.1:"), line
        local = int(line.split(b":")[1].split()[0])
        payload = os.urandom(500_000)
        answers = await asyncio.gather(*(_ask(local, payload + bytes((n,))) for n in range(5)))
        assert answers == [(payload + bytes((n,)))[::-1] for n in range(5)]
    finally:
        process.terminate()
        await process.wait()
        server.close()


async def _ask(port: int, payload: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(payload)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    return answer


@pytest.mark.parametrize("kubectl", KUBECTLS[-1:], ids=lambda path: path.name)
async def test_port_forward_says_why_it_cannot(cell: Any, kubectl: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(kubectl),
        *("port-forward", "pod/web", f":{closed}", "--address", "127.0.0.1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=cell.environment(),
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        local = int(line.split(b":")[1].split()[0])
        assert await _ask(local, b"x") == b""
        said = b""
        while b"cannot connect to port" not in said:
            piece = await asyncio.wait_for(process.stdout.readline(), 30)
            assert piece, said
            said += piece
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.mark.parametrize("kubectl", [KUBECTLS[0], KUBECTLS[-1]] if KUBECTLS else [], ids=lambda path: path.name)
async def test_killed_client_ends_the_process(cell: Any, kubectl: Path) -> None:
    client = await asyncio.create_subprocess_exec(
        str(kubectl),
        *("exec", "-i", "web", "--", "sh", "-c", "echo here; exec sleep 1000"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=cell.environment(),
    )
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 30) == b"here\n"
    client.kill()
    await client.wait()
    (process,) = cell.runtime.processes
    assert await asyncio.wait_for(process.wait(), 30) == 137


@pytest.mark.parametrize("kubectl", [KUBECTLS[0], KUBECTLS[-1]] if KUBECTLS else [], ids=lambda path: path.name)
@pytest.mark.parametrize("unsent", [300_000, 8_000_000])
async def test_killed_client_ends_a_process_that_reads_nothing(cell: Any, kubectl: Path, unsent: int) -> None:
    client = await asyncio.create_subprocess_exec(
        str(kubectl),
        *("exec", "-i", "web", "--", "sh", "-c", "echo here; exec sleep 1000"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=cell.environment(),
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(bytes(unsent))
    assert await asyncio.wait_for(client.stdout.readline(), 30) == b"here\n"
    client.kill()
    await client.wait()
    (process,) = cell.runtime.processes
    assert await asyncio.wait_for(process.wait(), 30) == 137


@pytest.mark.parametrize("kubectl", KUBECTLS[-1:], ids=lambda path: path.name)
async def test_logs_stream_and_end_with_the_client(cell: Any, kubectl: Path) -> None:
    code, out, _ = await cell.kubectl(kubectl, "logs", "web")
    assert (code, out) == (0, b"one\ntwo\n")
    client = await asyncio.create_subprocess_exec(
        str(kubectl), "logs", "-f", "web", stdout=asyncio.subprocess.PIPE, env=cell.environment()
    )
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 30) == b"one\n"
    client.kill()
    await client.wait()
    await asyncio.wait_for(cell.dropped.wait(), 30)


@pytest.mark.parametrize("kubectl", KUBECTLS[-1:], ids=lambda path: path.name)
async def test_refusals_of_the_agent_reach_the_user(cell: Any, kubectl: Path) -> None:
    code, _, err = await cell.kubectl(kubectl, "exec", "web", "-c", "other", "--", "true")
    assert code == 1
    assert b"not found" in err

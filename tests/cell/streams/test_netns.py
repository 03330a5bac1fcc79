"""Port forwarding's way into a network namespace of the kernel."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from corral.agent.streams import netns

_SERVER = """
import fcntl, socket, struct, sys
control = socket.socket()
fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
listening = socket.create_server((sys.argv[1], 7777), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
while True:
    connection, _ = listening.accept()
    connection.sendall(b"inside")
    connection.close()
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")


@pytest.fixture(params=["127.0.0.1", "::1"])
async def namespace(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A namespace in which a server listens on the loopback, port 7777."""
    server = await asyncio.create_subprocess_exec(
        *("unshare", "--net", sys.executable, "-c", _SERVER, request.param), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert await server.stdout.readline() == b"listening\n"
        yield f"/proc/{server.pid}/ns/net"
    finally:
        server.kill()
        await server.wait()


async def test_connects_inside_and_stays_outside(namespace: str) -> None:
    before = os.stat("/proc/self/ns/net").st_ino
    connected = await netns.connect(namespace, 7777)
    with connected:
        assert await asyncio.get_running_loop().sock_recv(connected, 100) == b"inside"
    assert os.stat("/proc/self/ns/net").st_ino == before
    # The same port on the host is another one.
    with pytest.raises(OSError, match="cannot connect to port 7777"):
        await netns.connect("", 7777)


async def test_says_what_cannot_be_reached(namespace: str) -> None:
    with pytest.raises(OSError, match=r"cannot connect to port 7778 in the pod: 127\.0\.0\.1: "):
        await netns.connect(namespace, 7778)
    with pytest.raises(FileNotFoundError):
        await netns.connect("/run/netns/no-such-namespace", 7777)

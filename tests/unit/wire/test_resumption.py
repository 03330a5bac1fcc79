"""The second connection takes up the first one's session, and the server still knows who it is."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import uvloop

from corral.apiserver.auth.pki import Pki


class _Greeter(asyncio.Protocol):
    """Says the name on the client's certificate."""

    def connection_made(self, transport: Any) -> None:
        name = dict(pair[0] for pair in transport.get_extra_info("peercert")["subject"])["commonName"]
        transport.write(f"{name}\n".encode())


async def _greeted(port: int, tls: ssl.SSLContext) -> tuple[str, bool]:
    """The greeting, and whether a session was taken up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    line = await reader.readline()
    reused = bool(writer.get_extra_info("ssl_object").session_reused)
    writer.close()
    return line.decode().strip(), reused


async def _check(directory: Path) -> None:
    pki = Pki.open(directory, hosts=[])
    server = await asyncio.get_running_loop().create_server(_Greeter, "127.0.0.1", 0, ssl=pki.server_context())
    port = server.sockets[0].getsockname()[1]
    tls = pki.client_context("ann", [])
    await asyncio.gather(*(_greeted(port, tls) for _ in range(3)))
    tls = pki.client_context("ann", [])
    assert [await _greeted(port, tls) for _ in range(4)] == [("ann", False), *[("ann", True)] * 3]
    await asyncio.gather(*(_greeted(port, tls) for _ in range(3)))
    assert await _greeted(port, tls) == ("ann", True)
    (directory / "bob.pem").write_bytes(b"".join(pki.admin()))
    tls.load_cert_chain(directory / "bob.pem")
    assert await _greeted(port, tls) == ("kubernetes-admin", False)
    assert await _greeted(port, tls) == ("kubernetes-admin", True)
    server.close()
    stranger = Pki.open(directory / "other", hosts=[])
    server = await asyncio.get_running_loop().create_server(_Greeter, "127.0.0.1", 0, ssl=stranger.server_context())
    try:
        await _greeted(server.sockets[0].getsockname()[1], tls)
        raise AssertionError("the session of one server opened another one")
    except ssl.SSLError:
        server.close()


def test_a_session_is_taken_up_as_the_same_user_by_the_same_server_only(tmp_path: Path) -> None:
    uvloop.run(_check(tmp_path))


def test_so_does_asyncio_itself(tmp_path: Path) -> None:
    asyncio.run(_check(tmp_path))

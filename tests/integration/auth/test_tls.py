"""Certificates over real TLS: who gets in, who does not, on the server's side and on an agent's."""

import asyncio
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from corral.apiserver.auth.authn import CellAuthenticator
from corral.apiserver.auth.files import write_private
from corral.apiserver.auth.pki import Pki, client_context
from corral.apiserver.auth.tokens import TokenIssuer
from corral.base.clock import SystemClock
from corral.store.memory import MemoryStore
from corral.wire.sockets import guarded


@dataclass
class Front:
    """A server that says who asks."""

    pki: Pki
    port: int
    agent_port: int

    async def ask(self, context: ssl.SSLContext, port: int = 0, host: str = "127.0.0.1") -> str:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=guarded)) as session,
            session.get(f"https://{host}:{port or self.port}/", ssl=context) as answer,
        ):
            return await answer.text()


async def _serve(context: ssl.SSLContext, handler: object) -> tuple[web.ServerRunner, int]:
    runner = web.ServerRunner(web.Server(handler))  # type: ignore[arg-type]
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening, ssl_context=context).start()
    return runner, listening.getsockname()[1]


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    pki = Pki.open(tmp_path / "pki", hosts=[])
    authenticator = CellAuthenticator(TokenIssuer(pki.service_account_key, MemoryStore(), SystemClock()), SystemClock())

    async def whoami(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        tls = request.transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        if der is None:
            return web.Response(text="anonymous")
        user = authenticator.certificate(der)
        return web.Response(text=f"{user.name} {' '.join(user.groups)} {tls.version()}")

    server, port = await _serve(pki.server_context(), whoami)
    agent, agent_port = await _serve(pki.agent_server_context("n1", ["127.0.0.1"]), whoami)
    yield Front(pki, port, agent_port)
    await server.cleanup()
    await agent.cleanup()


def with_certificate(front: Front, pair: tuple[bytes, bytes], directory: Path) -> ssl.SSLContext:
    context = client_context(front.pki.ca_pem)
    write_private(directory / "client.pem", pair[0] + pair[1])
    context.load_cert_chain(directory / "client.pem")
    return context


async def test_a_certificate_of_ours_names_its_holder(front: Front, tmp_path: Path) -> None:
    pair = front.pki.issue_client("ann", ["devs"], timedelta(hours=1))
    answer = await front.ask(with_certificate(front, pair, tmp_path))
    assert answer == "ann devs system:authenticated TLSv1.3"
    admin = await front.ask(with_certificate(front, front.pki.admin(), tmp_path))
    assert admin.startswith("kubernetes-admin system:masters ")


async def test_without_a_certificate_the_server_answers_and_the_agent_does_not(front: Front) -> None:
    context = client_context(front.pki.ca_pem)
    assert await front.ask(context) == "anonymous"
    with pytest.raises(aiohttp.ClientError):
        await front.ask(context, front.agent_port)


async def test_a_foreign_authoritys_certificate_ends_the_handshake(front: Front, tmp_path: Path) -> None:
    foreign = Pki.open(tmp_path / "foreign", hosts=[])
    pair = foreign.issue_client("kubernetes-admin", ["system:masters"], timedelta(hours=1))
    context = with_certificate(front, pair, tmp_path)
    for port in (front.port, front.agent_port):
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await front.ask(context, port)


async def test_an_expired_certificate_ends_the_handshake(front: Front, tmp_path: Path) -> None:
    pair = front.pki.issue_client("ann", ["system:masters"], timedelta(seconds=-1))
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await front.ask(with_certificate(front, pair, tmp_path))


async def test_a_serving_certificate_is_no_client_certificate(front: Front, tmp_path: Path) -> None:
    pair = front.pki.issue_serving("system:node:n1", ["127.0.0.1"], ["system:masters"])
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await front.ask(with_certificate(front, pair, tmp_path))


async def test_clients_trust_this_cell_only(front: Front, tmp_path: Path) -> None:
    foreign = Pki.open(tmp_path / "foreign", hosts=[])
    with pytest.raises(aiohttp.ClientConnectorCertificateError):
        await front.ask(client_context(foreign.ca_pem))


async def test_old_tls_is_refused(front: Front) -> None:
    context = client_context(front.pki.ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await front.ask(context) == "anonymous"
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await front.ask(context)


async def test_http1_is_the_only_protocol_and_names_match(front: Front) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", front.port, ssl=client_context(front.pki.ca_pem))
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.close()
    for name in ("localhost", "kubernetes.default.svc", "kubernetes"):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=client_context(front.pki.ca_pem), server_hostname=name
        )
        writer.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(
            "127.0.0.1", front.port, ssl=client_context(front.pki.ca_pem), server_hostname="other.example"
        )

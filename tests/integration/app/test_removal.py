"""Of a machine that was removed, what is open is closed, too."""

import asyncio
import ssl
from pathlib import Path

import pytest

from corral.apiserver.auth import certificates
from corral.apiserver.auth.files import write_private
from corral.apiserver.auth.pki import client_context
from corral.apiserver.http import front
from corral.app.dismissal import Attentive
from corral.client.client import Client
from corral.client.http import HttpTransport
from corral.kinds import machineidentities
from corral.kinds.resources import MACHINE_IDENTITIES, NODES, PODS
from corral.kinds.status import StatusError

from .conftest import Cell


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_SWEEP_SECONDS", 0.05)


def identity(cell: Cell, directory: Path) -> ssl.SSLContext:
    key = certificates.new_key()
    asked = certificates.request_pem(key, "system:node:m1", ["system:nodes"])
    write_private(directory / "m1.pem", cell.pki.sign_request(asked, True, None, "u1") + certificates.key_pem(key))
    context = client_context(cell.pki.ca_pem)
    context.load_cert_chain(directory / "m1.pem")
    return context


async def test_its_watches_end_and_it_hears_why(quick_sweeps: None, cell: Cell, tmp_path: Path) -> None:
    await cell.admin.create(MACHINE_IDENTITIES, machineidentities.new("m1", "u1"))
    transport = Attentive(HttpTransport(cell.url, identity(cell, tmp_path)))
    client = Client(transport)
    await client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m1"}})
    async with client.watch(PODS, field_selector="spec.nodeName=m1") as events:
        waiting = asyncio.ensure_future(anext(events))
        assert not (await asyncio.wait({waiting}, timeout=0.2))[0], "while it is a member, it watches"
        await cell.admin.patch(MACHINE_IDENTITIES, "m1", {"spec": {"uid": ""}})
        async with asyncio.timeout(5):
            with pytest.raises((OSError, StopAsyncIteration)):
                await waiting
    assert not transport.removed.is_set()
    with pytest.raises(StatusError, match="m1 was removed"):
        await client.get(NODES, "m1")
    assert transport.removed.is_set()
    await client.close()

"""A real server in this process, and what is needed to join it."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS, Pki
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.joinchecks import Findings, examine
from corral.app.server import running_server
from corral.app.servers import Roster
from corral.base.clock import Clock, SystemClock
from corral.cli.token import issue
from corral.client.client import Client


@dataclass
class Cell:
    """A server, and what is needed to join it."""

    url: str
    pki: Pki
    token: str
    admin: Client
    api: ApiServer

    async def examine(
        self, *, server: str = "", name: str = "m1", pin: str = "", token: str = "", clock: Clock | None = None
    ) -> Findings:
        """Ask whether a machine may join, with what is right but for what is given."""
        pin = pin or self.pki.fingerprint
        return await examine(server or self.url, name, pin, token or self.token, clock or SystemClock())


@pytest.fixture
async def cell(tmp_path: Path) -> AsyncIterator[Cell]:
    clock = SystemClock()
    config = CellConfig(tmp_path / "cell", port=0, agent=False, node_name="server")
    prepare_data_dir(config)
    async with running_server(config, clock, random.Random(1), lambda name, what: None) as api:
        await Roster(api.server, api.pki, config.url(api.port), clock, shared=False).tell()
        admin = Client(InProcessTransport(api.server, User("admin", (MASTERS,))))
        yield Cell(config.url(api.port), api.pki, await issue(admin, 3600, ""), admin, api.server)

"""What a machine does when its cell has removed it: it hears of it with any answer, stops its pods, and stays away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from corral.app.config import CellConfig
from corral.app.containers import stop_all
from corral.app.membership import Membership
from corral.base.errors import CorralError
from corral.client.api import ApiRequest, ApiResponse, Transport, WatchEvent
from corral.kinds.machineidentities import REMOVED

_log = logging.getLogger(__name__)

_UNAUTHORIZED: Final = 401
_GRACE_SECONDS: Final = 1.0
"""For the containers: what the machine promised to have killed by itself is sooner over than a pod's own grace."""


class Removed(CorralError):
    """The cell has removed this machine, or another one has joined under its name."""

    def __init__(self, membership: Membership) -> None:
        super().__init__(
            f"cannot go on as {membership.name}: it was removed from the cell of {membership.server}, "
            "or another machine has joined under its name",
            "to join again, use a new line: corral token create",
        )


class Attentive:
    """A transport that notices when the server says that this machine was removed."""

    def __init__(self, plain: Transport) -> None:
        self.removed = asyncio.Event()
        self._plain = plain

    async def call(self, request: ApiRequest) -> ApiResponse:
        """Perform one request."""
        response = await self._plain.call(request)
        if response.status == _UNAUTHORIZED and REMOVED.encode() in response.body:
            self.removed.set()
        return response

    def watch(self, request: ApiRequest) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """Open a watch."""
        return self._plain.watch(request)

    async def close(self) -> None:
        """Give back connections."""
        await self._plain.close()


async def leave(config: CellConfig, membership: Membership) -> None:
    """Stop all containers of a machine whose agent has ended, and see to it that it does not start again."""
    replace(Membership.load(config.data_dir) or membership, removed=True).save(config.data_dir)
    for stem in ("client", "serving"):
        (config.data_dir / "pki" / f"{stem}.pem").unlink(missing_ok=True)
    stopped = await stop_all(config, _GRACE_SECONDS)
    _log.warning("%s was removed from its cell: %d containers stopped", membership.name, stopped)

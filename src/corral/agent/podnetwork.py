"""What the agent knows of the pod network between machines, whoever keeps it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from corral.agent.problems.api import Finding


class PodNetwork(Protocol):
    """Gets this machine's pods their subnet, and keeps the way to those of other machines."""

    settled: asyncio.Event
    """Set while there is no trouble."""

    @property
    def proposal(self) -> str:
        """The subnet that this machine would like to have; empty: it needs none of the cell's."""

    @property
    def trouble(self) -> str | None:
        """Why pods here cannot reach all others, now; empty if they can, None if it is not known here."""

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `trouble` is another."""

    async def run(self) -> None:
        """Work until cancelled."""


class NoPodNetwork:
    """Of a machine whose runtime needs no subnet of the cell's."""

    proposal = ""
    trouble = None

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        self.settled.set()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Nothing ever changes."""

    async def run(self) -> None:
        """There is nothing to do."""


def finding(network: PodNetwork) -> Finding | None:
    """The condition NetworkUnavailable, which keeps new pods away; None: it is not ours to write."""
    if network.trouble is None:
        return None
    if network.trouble:
        return Finding("NetworkUnavailable", True, "NoRouteCreated", network.trouble, acute=True)
    return Finding("NetworkUnavailable", False, "RouteCreated", "the routes to all machines' pods stand")

"""A cell whose machines are network namespaces of this one: the server here, an agent in each of them."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from corral.apiserver.auth.api import User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.inprocess import InProcessTransport
from corral.app.cell import Cell, Report, running_cell
from corral.app.clock import process_clock
from corral.app.fleet import agents, links, power
from corral.app.fleet.layout import Fleet, Machine
from corral.app.membership import Identity, Membership
from corral.app.podnetwork import build_visitor
from corral.base.errors import CorralError
from corral.cli.token import issue, withdraw
from corral.client.client import Client

_TOKEN_SECONDS = 600
_TURNS = 4
"""So many agents start at the same time, or more where there are more processors."""


@asynccontextmanager
async def running_fleet(fleet: Fleet, report: Report) -> AsyncIterator[Cell]:
    """Start a cell and its machines, all but those that were killed. On exit the machines go on: an agent that ended
    would take its containers with it, as it has promised to (decision 17).

    Raises:
        CorralError: a part is missing or cannot be used.
    """
    began = time.monotonic()
    await links.lay(fleet)
    report("machines' link", f"{fleet.bridge}, {fleet.subnet}", time.monotonic() - began)
    config = replace(fleet.config, agent=False, addresses=(fleet.gateway,))
    async with AsyncExitStack() as stack:
        cell = await stack.enter_async_context(running_cell(config, report))
        clock = process_clock(fleet.config.data_dir)
        routes = build_visitor(_client(cell), fleet.bridge, clock, random.SystemRandom())
        cell.tasks.start(routes.run(), "routes to pods")
        await _enrol(fleet, cell)
        await _start(fleet, report)
        yield cell


def _client(cell: Cell) -> Client:
    return Client(InProcessTransport(cell.server, User("system:apiserver", (MASTERS,))), field_manager="corral")


async def _enrol(fleet: Fleet, cell: Cell) -> None:
    """Give each machine that has none its first certificate, by a token that ends with this."""
    server = f"https://{fleet.gateway}:{cell.port}"
    identities = await asyncio.gather(*(_prepared(fleet, machine, server) for machine in fleet.machines))
    fresh = [identity for identity in identities if identity is not None and not identity.introduced]
    if fresh:
        client = _client(cell)
        authority = (fleet.config.data_dir / "pki" / "ca.crt").read_bytes()
        token = await issue(client, _TOKEN_SECONDS, "the machines of corral up --machines")
        try:
            await asyncio.gather(*(identity.introduce(authority, token) for identity in fresh))
        finally:
            await withdraw(client, token)


async def _prepared(fleet: Fleet, machine: Machine, server: str) -> Identity | None:
    """None for a machine that is in no state to be told anything (its disk is full), but was told before."""
    try:
        return await agents.prepare(fleet, machine, server)
    except CorralError:
        if Membership.load(machine.config.data_dir) is None:
            raise
        return None


async def _start(fleet: Fleet, report: Report) -> None:
    """Start the machines; the cell goes on without those that do not start, unless none does."""
    failures: list[CorralError] = []
    # All at once they would keep the processors from those that run already, and have leases to renew.
    turns = asyncio.Semaphore(max(_TURNS, len(os.sched_getaffinity(0))))

    async def start(machine: Machine) -> None:
        if power.is_off(machine):
            report(machine.name, f"was killed (corral machine heal {machine.name})", 0.0)
            return
        try:
            async with turns:
                seconds = await agents.start(fleet, machine)
        except CorralError as error:
            failures.append(error)
            report(machine.name, f"does not run: {error.message} (then: corral machine heal {machine.name})", 0.0)
            return
        report(machine.name, f"machine at {machine.address}", seconds)

    await asyncio.gather(*(start(machine) for machine in fleet.machines))
    if len(failures) == len(fleet.machines):
        raise failures[0]

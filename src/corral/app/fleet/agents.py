"""The agents of a fleet's machines: each joins like any other machine, and runs in its machine's network namespace.

They are processes of their own, children of nobody here: a server that dies leaves them running, as on real machines.
"""

import asyncio
import signal
import time
from dataclasses import replace
from typing import Final

from corral.agent import machine as facts
from corral.app import detach
from corral.app.config import prepare_data_dir
from corral.app.fleet import links, power
from corral.app.fleet.layout import Fleet, Machine, share
from corral.app.membership import Identity, Membership
from corral.app.process import end, running_pid
from corral.base.clock import SystemClock
from corral.base.errors import CorralError

STOP_SECONDS: Final = 30.0


def membership(fleet: Fleet, machine: Machine, server: str) -> Membership:
    """What the machine is told of its cell and of itself."""
    real = facts.read(machine.name, (), fleet.config.data_dir)
    capacity = {**share(real.allocatable, fleet.count, machine.index), **fleet.capacity}
    return Membership(server, machine.name, {}, [], capacity, machine.address)


async def prepare(fleet: Fleet, machine: Machine, server: str) -> Identity:
    """The machine's data directory, with what it is told of the cell; an agent that was told something else ends.

    Raises:
        CorralError: it cannot be used.
    """
    prepare_data_dir(machine.config)
    told = membership(fleet, machine, server)
    before = Membership.load(machine.config.data_dir)
    if before is not None and before.server == server:
        told = replace(told, servers=before.servers)
    if told != before:
        await stop(machine)
        told.save(machine.config.data_dir)
    return Identity(machine.config.data_dir / "pki", told, SystemClock())


async def start(fleet: Fleet, machine: Machine) -> float:
    """Plug the machine in, and start its agent unless it runs; gives the seconds until it was ready.

    Raises:
        CorralError: it did not become ready; with the agent's last words.
    """
    began = time.monotonic()
    async with power.switching(machine):
        await links.plug(machine, fleet)
    if not running_pid(machine.config):
        arguments = ["join", "--data-dir", str(machine.config.data_dir), "--engine", machine.config.engine]
        # setsid leaves no child of this process behind that nobody waits for.
        command = ("setsid", "--fork", *links.within(machine))
        launched = await asyncio.to_thread(detach.launch, machine.config, arguments, command)
        await asyncio.to_thread(launched.child.wait)
        # `up` and `heal` may both have found it not running: the one that came second has what it wanted.
        if not launched.ready and not running_pid(machine.config):
            raise CorralError(
                f"cannot start the agent of {machine.name}: {_complaint(launched.said)}",
                f"see {machine.config.data_dir / 'log' / 'corral.log'}",
            )
    return time.monotonic() - began


def _complaint(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else "it ended without a word"


async def stop(machine: Machine) -> None:
    """End the machine's agent; its containers run on.

    Raises:
        CorralError: it does not end.
    """
    pid = running_pid(machine.config)
    if not pid:
        return
    power.signal_all([pid], signal.SIGCONT)
    if not await asyncio.to_thread(end, pid, STOP_SECONDS):
        raise CorralError(f"cannot stop the agent of {machine.name} in {STOP_SECONDS:.0f} s", f"kill -9 {pid}")

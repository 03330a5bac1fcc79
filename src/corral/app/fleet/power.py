"""Switching machines of a fleet off, as a power cut does, and freezing them."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from corral.agent.mounts import mounts_below, unmount
from corral.agent.runtime.oci.cgroups import Cgroups
from corral.agent.runtime.oci.state import boot_id
from corral.app.fleet import links
from corral.app.fleet.layout import Machine
from corral.app.process import running_pid
from corral.base.errors import CorralError

_DIE_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01


@asynccontextmanager
async def switching(machine: Machine) -> AsyncIterator[None]:
    """Switch a machine on or off one at a time: people, repairs and `up` may do it at once."""
    with machine.switch.with_suffix(".lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


def processes(machine: Machine) -> list[int]:
    """All processes of the machine: what lives on its network (agent, watchman, monitors), then its containers."""
    own = [] if not links.is_plugged(machine) else _on_network(os.stat(machine.namespace))
    groups = Cgroups(f"/corral-{machine.config.name}")
    return [*own, *sorted(groups.processes(groups.parent) - set(own))]


def _on_network(namespace: os.stat_result) -> list[int]:
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                theirs = os.stat(f"{entry.path}/ns/net")
            except OSError:  # it has ended
                continue
            if (theirs.st_ino, theirs.st_dev) == (namespace.st_ino, namespace.st_dev):
                found.append(int(entry.name))
    return sorted(found)


async def switch_off(machine: Machine) -> int:
    """Cut the power: the link goes down before anything can say goodbye, then everything dies.

    What the kernel keeps only while it runs (namespaces, mounts, control groups) goes too; files stay. Gives how many
    processes there were.

    Raises:
        CorralError: something does not die.
    """
    async with switching(machine):
        _off_mark(machine).write_text(boot_id())
        if links.is_plugged(machine):
            await links.pull(machine)
        killed = kill_all(machine)
        _forget(machine)
        await links.unplug(machine)
    return killed


def _forget(machine: Machine) -> None:
    """Take away what a boot does not find."""
    agent = machine.config.agent_dir
    for point in mounts_below(agent):
        # A disk that somebody mounted for the agent comes back with the machine.
        if point != os.path.realpath(agent):
            unmount(point)
    groups = Cgroups(f"/corral-{machine.config.name}")
    _until(lambda: groups.remove(groups.parent), f"cannot remove the control groups of {machine.name}")


def kill_all(machine: Machine) -> int:
    """SIGKILL every process of the machine; gives how many there were.

    Raises:
        CorralError: something does not die.
    """
    killed: set[int] = set()

    def all_dead() -> bool:
        left = processes(machine)
        signal_all(left, signal.SIGKILL)
        killed.update(left)
        return not left

    _until(all_dead, f"cannot kill all processes of {machine.name}")
    return len(killed)


def is_off(machine: Machine) -> bool:
    """Whether the machine was switched off since the real one booted."""
    try:
        return _off_mark(machine).read_text() == boot_id()
    except OSError:
        return False


def allow(machine: Machine) -> None:
    """Let the machine be started again."""
    _off_mark(machine).unlink(missing_ok=True)


def freeze(machine: Machine, *, agent_only: bool) -> int:
    """Stop the machine's processes where they are; gives how many.

    With `agent_only` it is as an agent that hangs, else as a hypervisor that stops a virtual machine.
    """
    agent = running_pid(machine.config)
    found = [pid for pid in (agent,) if pid] if agent_only else processes(machine)
    signal_all(found, signal.SIGSTOP)
    return len(found)


def thaw(machine: Machine) -> None:
    """Undo `freeze`."""
    signal_all(processes(machine), signal.SIGCONT)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _off_mark(machine: Machine) -> Path:
    return machine.switch.with_suffix(".killed")


def _until(done: Callable[[], bool], complaint: str) -> None:
    ends = time.monotonic() + _DIE_SECONDS
    while not done():
        if time.monotonic() > ends:
            raise CorralError(complaint, "see what holds them: ps, or /proc/PID/stack")
        time.sleep(_LOOK_SECONDS)

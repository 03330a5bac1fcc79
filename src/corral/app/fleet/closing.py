"""`corral down` for a fleet: each machine goes down as it would on its own, then the wires go."""

import asyncio

from corral.agent.runtime import syscalls
from corral.app.containers import stop_all
from corral.app.fleet import agents, links, power
from corral.app.fleet.layout import Fleet, Machine
from corral.app.podnetwork import remove_visitor
from corral.cli import terminal


async def close(fleet: Fleet, grace: float, *, keep_containers: bool) -> int:
    """End the agents, stop the containers and take the wires away; gives how many were stopped.

    Where containers are kept the agents are too, because their containers end with them.

    Raises:
        CorralError: an agent does not end, or a container cannot be stopped.
    """
    if keep_containers:
        return 0
    for machine in fleet.machines:
        power.thaw(machine)
    await asyncio.gather(*(agents.stop(machine) for machine in fleet.machines))
    plugged = [machine for machine in fleet.machines if links.is_plugged(machine)]
    stopped = await asyncio.gather(*(_stop_containers(machine, grace) for machine in plugged))
    for machine in plugged:
        # An agent that was being started when we came, and the watchman.
        power.kill_all(machine)
    await remove_visitor(fleet.bridge)
    await links.tear(fleet)
    for machine in fleet.machines:
        power.allow(machine)
    return sum(stopped)


async def _stop_containers(machine: Machine, grace: float) -> int:
    """What is to be undone is on the machine's network, so it is done by a thread that has gone there.

    A machine whose disk was lost has its power cut instead: it must not keep the others from going down.
    """

    def work() -> int:
        syscalls.enter_network(machine.namespace)
        return asyncio.run(stop_all(machine.config, grace))

    try:
        return await syscalls.in_new_thread(work)
    except OSError as error:
        terminal.note(f"cannot stop the containers of {machine.name} one by one ({error}): its power is cut")
        await power.switch_off(machine)
        return 0

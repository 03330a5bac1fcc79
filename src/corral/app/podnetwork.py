"""The pod network of this machine, wired to its runtime and its API."""

import random

from corral.agent.runtime.oci import OciRuntime
from corral.base.clock import Clock
from corral.client.client import Client
from corral.network.keeper import RouteKeeper
from corral.network.programs import Names, Programs


def build_network(client: Client, runtime: OciRuntime, machine: str, clock: Clock, rng: random.Random) -> RouteKeeper:
    """What keeps the routes of `machine`, whose pods `runtime` connects."""
    proposal = runtime.pod_network.subnet
    return RouteKeeper(client, programs(runtime), clock, rng, name=machine, pods=runtime, proposal=proposal)


def build_visitor(client: Client, table: str, clock: Clock, rng: random.Random) -> RouteKeeper:
    """What keeps the routes of a machine that has no pods, but wants to reach those of the cell."""
    return RouteKeeper(client, Programs(Names(table)), clock, rng)


async def remove_visitor(table: str) -> None:
    """Take away what `build_visitor` has made."""
    await Programs(Names(table)).remove()


def programs(runtime: OciRuntime) -> Programs:
    """What reads and writes the routes of the machine of `runtime`."""
    return Programs(Names(runtime.pod_network.name, runtime.pod_network.mtu))

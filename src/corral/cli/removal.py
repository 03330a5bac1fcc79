"""Taking a machine out of a cell, so that it stays out and nothing runs twice meanwhile.

First its certificate stops to count. From then on it renews its Lease no more, so all that may run elsewhere is dead
there after what it has promised (docs/decisions/0017), sooner if it hears that it was removed. Only then does its Node
go, and with it its pods, which start elsewhere. An interrupted removal is finished by another one.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from corral.client.client import Client
from corral.kinds import machineidentities
from corral.kinds.health import FENCED, SILENCE, annotation, read_promise
from corral.kinds.resources import LEASES, MACHINE_IDENTITIES, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

_LEASES: Final = "kube-node-lease"
_MARGIN_SECONDS: Final = 0.5


async def remove_machine(client: Client, node: Obj, note: Callable[[str], None]) -> None:
    """Remove the machine of `node`; `note` is told why it takes a while.

    Raises:
        StatusError: the server refuses.
    """
    name = node["metadata"]["name"]
    await _dismiss(client, name)
    seconds = await _until_dead(client, name)
    if seconds:
        note(f"{name} is out; waiting {seconds:.0f} s until it has surely stopped its pods")
        await asyncio.sleep(seconds)
    try:
        await client.delete(NODES, name, uid=node["metadata"]["uid"])
    except StatusError as error:
        if error.code != 404:
            raise


async def _dismiss(client: Client, name: str) -> None:
    nobody = machineidentities.new(name, "")
    try:
        await client.create(MACHINE_IDENTITIES, nobody)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise
        await client.patch(MACHINE_IDENTITIES, name, {"spec": nobody["spec"]})


async def _until_dead(client: Client, name: str) -> float:
    """Seconds, from now on, that the machine may need at most to keep its promise; 0 if it has made none."""
    try:
        lease = await client.get(LEASES, name, _LEASES)
    except StatusError as error:
        if error.code != 404:
            raise
        return 0.0
    promise = read_promise(lease)
    if promise is None or annotation(lease, SILENCE) == FENCED:
        return 0.0
    return promise * 1.01 + _MARGIN_SECONDS

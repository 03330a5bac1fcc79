"""The agent proposes a subnet with its Node, and says of the pod network what its keeper says."""

import asyncio
from collections.abc import Callable
from typing import Any

from corral.kinds.podnetwork import PROPOSAL
from corral.kinds.types import Obj

NODE = "/api/v1/nodes/m1"


class Network:
    """A pod network in whose hands nothing is but words."""

    proposal = "10.88.7.0/24"

    def __init__(self, trouble: str) -> None:
        self.trouble = trouble
        self.settled = asyncio.Event()
        self.ran = False
        self._changed: Callable[[], None] = lambda: None

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def run(self) -> None:
        self.ran = True

    def say(self, trouble: str) -> None:
        self.trouble = trouble
        self._changed()


def condition(rig: Any) -> Obj:
    found = [one for one in rig.api.objects[NODE]["status"]["conditions"] if one["type"] == "NetworkUnavailable"]
    assert len(found) == 1
    return {field: found[0][field] for field in ("status", "reason", "message")}


async def test_trouble_with_the_network_is_a_condition_and_an_event(rig: Any) -> None:
    await rig.agent.stop()
    del rig.api.objects[NODE]
    network = Network("no routes")
    rig.agent = rig.build(network=network)
    starting = asyncio.create_task(rig.agent.start())
    await rig.settled()
    assert network.ran
    assert rig.api.objects[NODE]["metadata"]["annotations"][PROPOSAL] == network.proposal
    assert "status" not in rig.api.objects[NODE], "for a moment it waits for the network, to tell all at once"
    await rig.advance(1.01)
    await starting
    assert condition(rig) == {"status": "True", "reason": "NoRouteCreated", "message": "no routes"}
    network.say("")
    await rig.settled()
    assert condition(rig)["status"] == "False"
    network.say("the table is gone")
    await rig.settled()
    assert condition(rig)["message"] == "the table is gone"
    await rig.advance(1)
    assert ("NoRouteCreated", "the table is gone") in rig.events()


async def test_a_runtime_with_a_network_of_its_own_says_nothing_of_it(rig: Any) -> None:
    types = {one["type"] for one in rig.api.objects[NODE]["status"]["conditions"]}
    assert "NetworkUnavailable" not in types
    assert PROPOSAL not in rig.api.objects[NODE]["metadata"].get("annotations", {})

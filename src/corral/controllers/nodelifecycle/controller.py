"""Watches machines' leases and writes what `plan` says."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.controllers.nodelifecycle.plan import GRACE_SECONDS, Sighting, sighting, silent_in, taints, unknown_status
from corral.kinds.resources import LEASES, NODES
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.status import write_status

NODE_LEASES = "kube-node-lease"
"""The namespace of machines' leases."""


class NodeLifecycleController:
    """Says `Unknown` of machines that fall silent, and keeps the taints that follow from conditions.

    Args:
        grace: seconds of silence.
    """

    name = "node-controller"
    reads = (NODES, LEASES)
    writes = ("nodes", "nodes/status")

    _tools: Tools
    _nodes: Informer
    _leases: Informer

    def __init__(self, grace: float = GRACE_SECONDS) -> None:
        self._grace = grace
        self._seen: dict[str, Sighting] = {}

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._nodes = tools.caches.get(NODES)
        self._leases = tools.caches.get(LEASES)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The machine."""
        if resource == NODES:
            return [key_of(obj)]
        metadata = obj["metadata"]
        return [Key("", metadata["name"])] if metadata["namespace"] == NODE_LEASES else []

    async def reconcile(self, key: Key) -> Result:
        """Bring conditions and taints in line with the machine's signs of life."""
        node = self._nodes.get(key)
        if node is None:
            self._seen.pop(key.name, None)
            return Done()
        clock, client = self._tools.clock, self._tools.client
        now = clock.now()
        seen = sighting(node, self._leases.get(Key(NODE_LEASES, key.name)), self._seen.get(key.name), now)
        self._seen[key.name] = seen
        left = silent_in(seen, self._grace, now)
        status = unknown_status(node, now) if left <= 0 else None
        if status is not None:
            node = await write_status(client, NODES, node, status)
            self._tools.events.record(node, "Normal", "NodeNotReady", f"Node {key.name} status is now: NodeNotReady")
        wanted = taints(node, now)
        if wanted is not None:
            patch: Obj = {
                "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
                "spec": {"taints": wanted or None},
            }
            await client.patch(NODES, key.name, patch)
        return Requeue(left) if left > 0 else Done()

"""Assigns machines their pods' subnets, and publishes them as HostSubnets.

No two machines get overlapping subnets: one controller assigns all of them, and between looking at what is taken and
noting what it gives away it does not wait. Agents watch HostSubnets instead of Nodes, because those change with each
heartbeat of each machine, these only when one comes, leaves or moves.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network

from corral.client.informer import Informer
from corral.controllers.nodeipam.plan import clash, host_subnet, proposed
from corral.kinds.podnetwork import assigned, read
from corral.kinds.resources import HOST_SUBNETS, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Result, Temporary, Tools


class NodeIpamController:
    """Writes `spec.podCIDR` and `spec.podCIDRs` of Nodes, and HostSubnets."""

    name = "node-ipam-controller"
    reads = (NODES, HOST_SUBNETS)
    writes = ("nodes", "hostsubnets")

    _tools: Tools
    _nodes: Informer
    _subnets: Informer

    def __init__(self) -> None:
        self._given: dict[str, tuple[IPv4Network, ...]] = {}
        """What was given away, until it shows in our copy of the HostSubnets."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._nodes, self._subnets = map(tools.caches.get, self.reads)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The machine, whose name a HostSubnet has, too."""
        return [key_of(obj)]

    async def reconcile(self, key: Key) -> Result:
        """Give the machine a subnet if it has none, and make its HostSubnet say what its Node says."""
        node, present = self._nodes.get(key), self._subnets.get(key)
        if node is None:
            self._given.pop(key.name, None)
            await self._withdraw(present)
            return Done()
        networks = assigned(node) or proposed(node)
        if not networks:
            return Done()
        if present is not None and read(present).networks == networks:
            self._given.pop(key.name, None)
        else:
            other = clash(networks, self._taken(key.name, assigned_too=not assigned(node)))
            if other is not None:
                return self._refuse(node, other)
            self._given[key.name] = networks
        if not assigned(node):
            node = await self._give(key.name, networks)
        await self._publish(node, present)
        return Done()

    def _taken(self, name: str, *, assigned_too: bool) -> list[IPv4Network]:
        """What other machines have; `assigned_too`: also what stands in their Nodes only."""
        told = [(subnet.name, subnet.networks) for subnet in map(read, self._subnets.items())]
        seen = [(node["metadata"]["name"], assigned(node)) for node in self._nodes.items()] if assigned_too else []
        every = [*told, *self._given.items(), *seen]
        return [network for other, networks in every if other != name for network in networks]

    def _refuse(self, node: Obj, other: IPv4Network) -> Result:
        networks, name = assigned(node), node["metadata"]["name"]
        if not networks:
            # Its agent sees whose it is, and proposes another one: it alone knows what means something else there.
            return Done()
        words = f"the pod CIDR {networks[0]} of {name} overlaps {other} of another machine: remove one of them"
        self._tools.events.record(node, "Warning", "CIDRNotAvailable", words)
        return Temporary(words)

    async def _give(self, name: str, networks: tuple[IPv4Network, ...]) -> Obj:
        texts = [str(network) for network in networks]
        return await self._tools.client.patch(NODES, name, {"spec": {"podCIDR": texts[0], "podCIDRs": texts}})

    async def _publish(self, node: Obj, present: Obj | None) -> None:
        wanted = host_subnet(node)
        if present is None:
            await self._tools.client.create(HOST_SUBNETS, wanted)
        elif present.get("spec") != wanted["spec"]:
            metadata = {"resourceVersion": present["metadata"]["resourceVersion"]}
            patch: Obj = {"metadata": metadata, "spec": {"hostIP": None, "tunnel": None, **wanted["spec"]}}
            await self._tools.client.patch(HOST_SUBNETS, node["metadata"]["name"], patch)

    async def _withdraw(self, present: Obj | None) -> None:
        if present is None:
            return
        try:
            await self._tools.client.delete(HOST_SUBNETS, present["metadata"]["name"], uid=present["metadata"]["uid"])
        except StatusError as error:
            if error.code != 404:
                raise

"""Assigns machines their pods' subnets, and publishes them as HostSubnets.

No two machines get overlapping subnets: one controller assigns all of them, and between looking at what is taken and
noting what it gives away it does not wait. Agents watch HostSubnets instead of Nodes, because those change with each
heartbeat of each machine, these only when one comes, leaves or moves.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network

from corral.client.informer import Informer
from corral.controllers.nodeipam.plan import assign, clash, host_subnet
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
        """What was given away and may not show in our copy of the Nodes yet."""

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
        network = assign(node, lambda: self._taken(key.name))
        if network is not None:
            self._given[key.name] = (network,)
            node = await self._give(key.name, network)
        elif assigned(node):
            self._given.pop(key.name, None)
        return await self._publish(node, present)

    def _taken(self, name: str) -> list[IPv4Network]:
        """All subnets of other machines."""
        seen = {other["metadata"]["name"]: assigned(other) for other in self._nodes.items()}
        told = {subnet.name: subnet.networks for subnet in map(read, self._subnets.items())}
        every = [*seen.items(), *told.items(), *self._given.items()]
        return [network for other, networks in every if other != name for network in networks]

    async def _give(self, name: str, network: IPv4Network) -> Obj:
        try:
            patch: Obj = {"spec": {"podCIDR": str(network), "podCIDRs": [str(network)]}}
            return await self._tools.client.patch(NODES, name, patch)
        except StatusError:
            self._given.pop(name, None)
            raise

    async def _publish(self, node: Obj, present: Obj | None) -> Result:
        networks = assigned(node)
        if not networks:
            await self._withdraw(present)
            return Done()
        wanted, name = host_subnet(node), node["metadata"]["name"]
        if present is not None and present.get("spec") == wanted["spec"]:
            return Done()
        if present is None or read(present).networks != networks:
            taken = clash(networks, (one for other in self._others(name) for one in other))
            if taken is not None:
                words = f"the pod CIDR {networks[0]} of {name} overlaps {taken} of another machine: remove one of them"
                self._tools.events.record(node, "Warning", "CIDRNotAvailable", words)
                return Temporary(words)
        if present is None:
            await self._tools.client.create(HOST_SUBNETS, wanted)
        else:
            metadata = {"resourceVersion": present["metadata"]["resourceVersion"]}
            spec = {"hostIP": None, **wanted["spec"]}
            await self._tools.client.patch(HOST_SUBNETS, name, {"metadata": metadata, "spec": spec})
        return Done()

    def _others(self, name: str) -> Iterable[tuple[IPv4Network, ...]]:
        return (other.networks for other in map(read, self._subnets.items()) if other.name != name)

    async def _withdraw(self, present: Obj | None) -> None:
        if present is None:
            return
        try:
            await self._tools.client.delete(HOST_SUBNETS, present["metadata"]["name"], uid=present["metadata"]["uid"])
        except StatusError as error:
            if error.code != 404:
                raise

"""Which routes a machine needs to reach the pods of all others, and what to change to have them. Pure.

To a machine on one of our own links the packets go as they are, with it as the gateway ("host-gw"). To any other they
go inside UDP, from machine to machine (VXLAN), because routers between know nothing of pods. So they do from and to a
machine that is marked to be on a link that carries nothing but machines' own packets.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses

from corral.kinds.podnetwork import HostSubnet, first_free


@dataclass(frozen=True, slots=True)
class Direct:
    """Packets for `network` go to the gateway `via` on the link `device`."""

    network: IPv4Network
    via: IPv4Address
    device: str


@dataclass(frozen=True, slots=True)
class Tunnelled:
    """Packets for `network` go inside VXLAN to the machine `remote`."""

    network: IPv4Network
    remote: IPv4Address


Route = Direct | Tunnelled


@dataclass(frozen=True, slots=True)
class Foreign:
    """A route of this machine that is not ours."""

    network: IPv4Network
    device: str
    connected: bool
    """Whether it is a link of this machine, not the way through a gateway."""


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine's addresses and routes."""

    addresses: Sequence[tuple[str, IPv4Interface]] = ()
    """(link, address) pairs."""
    foreign: Sequence[Foreign] = ()
    routes: frozenset[Route] = frozenset()
    """Our own, as they stand."""
    table: str = ""
    """The cell's table of nftables, as it stands."""
    taken: tuple[IPv4Network, ...] = ()
    """Where other cells on this machine have routes to."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be."""

    routes: frozenset[Route]
    pods: tuple[IPv4Network, ...]
    """Every machine's pods: packets to them keep their source address."""
    machines: tuple[IPv4Address, ...]
    """Whose tunnelled packets are accepted."""
    conflicts: tuple[str, ...] = ()
    """Whose pods cannot be reached from here, and why."""

    @property
    def tunnels(self) -> bool:
        return any(isinstance(route, Tunnelled) for route in self.routes)


@dataclass(frozen=True, slots=True)
class Changes:
    """From what there is to what has to be; `put` replaces what there is for the same network."""

    drop: tuple[Route, ...] = field(default=())
    put: tuple[Route, ...] = field(default=())


def plan(name: str, subnets: Collection[HostSubnet], machine: Machine) -> Plan:
    """The routes of the machine `name`. A machine without a known address, or that is this very one, needs none."""
    here = {interface.ip for _, interface in machine.addresses}
    routes: set[Route] = set()
    pods: list[IPv4Network] = []
    machines: set[IPv4Address] = set()
    conflicts: list[str] = []
    tunnel = any(subnet.tunnel for subnet in subnets if subnet.name == name)
    for subnet in subnets:
        host = IPv4Address(subnet.host) if subnet.host else None
        if subnet.name == name or host is None or host.is_loopback or host in here:
            pods += subnet.networks
            continue
        machines.add(host)
        for network in subnet.networks:
            other = _cut_off(network, machine.foreign)
            if other is not None:
                conflicts.append(f"{network} of {subnet.name} overlaps the route {other.network} of {other.device}")
                continue
            routes.add(_route(network, host, () if tunnel or subnet.tunnel else machine.addresses))
            pods.append(network)
    merged = tuple(collapse_addresses(pods))
    return Plan(frozenset(routes), merged, tuple(sorted(machines)), tuple(sorted(conflicts)))


def _route(network: IPv4Network, host: IPv4Address, addresses: Iterable[tuple[str, IPv4Interface]]) -> Route:
    links = [(interface.network.prefixlen, link) for link, interface in addresses if host in interface.network]
    return Direct(network, host, max(links)[1]) if links else Tunnelled(network, host)


def _cut_off(network: IPv4Network, foreign: Iterable[Foreign]) -> Foreign | None:
    """What of this machine's own a route to `network` would cut off: a link's network, or a part of `network`."""
    for route in foreign:
        if route.network.overlaps(network) and (route.connected or route.network.subnet_of(network)):
            return route
    return None


def changes(present: Collection[Route], wanted: Collection[Route]) -> Changes:
    """What to do; nothing if all is there."""
    networks = {route.network for route in wanted}
    drop = [route for route in present if route.network not in networks]
    put = [route for route in wanted if route not in present]
    return Changes(_sorted(drop), _sorted(put))


def _sorted(routes: Iterable[Route]) -> tuple[Route, ...]:
    return tuple(sorted(routes, key=lambda route: route.network))


def is_taken(wanted: IPv4Network, name: str, subnets: Iterable[HostSubnet]) -> bool:
    """Whether another machine than `name` has what overlaps `wanted`."""
    return any(wanted.overlaps(other) for other in _others(name, subnets))


def propose(name: str, subnets: Iterable[HostSubnet], machine: Machine) -> IPv4Network | None:
    """A subnet that no other machine has and that means nothing else here; None: there is none."""
    return first_free(name, [*_others(name, subnets), *(route.network for route in machine.foreign), *machine.taken])


def _others(name: str, subnets: Iterable[HostSubnet]) -> list[IPv4Network]:
    return [network for subnet in subnets if subnet.name != name for network in subnet.networks]

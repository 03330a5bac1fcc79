"""Routes: every machine reaches every other one's pods, nobody's own network is cut off, and changes make it so."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.kinds.podnetwork import SPACE, SPARE, HostSubnet, candidates, first_free
from corral.network.plan import Direct, Foreign, Machine, Route, Tunnelled, changes, is_taken, plan, propose

HERE = Machine(addresses=[("lo", IPv4Interface("127.0.0.1/8")), ("eth0", IPv4Interface("192.0.2.1/24"))])
LINK = Foreign(IPv4Network("192.0.2.0/24"), "eth0", connected=True)


def subnet(name: str, host: str, *networks: str) -> HostSubnet:
    return HostSubnet(name, host, tuple(map(IPv4Network, networks)))


OWN = subnet("m1", "192.0.2.1", "10.88.1.0/24")


def test_a_neighbour_is_the_gateway_and_others_are_at_the_end_of_a_tunnel() -> None:
    found = plan(
        "m1", [OWN, subnet("m2", "192.0.2.2", "10.88.2.0/24"), subnet("m3", "198.51.100.3", "10.88.9.0/24")], HERE
    )
    near = Direct(IPv4Network("10.88.2.0/24"), IPv4Address("192.0.2.2"), "eth0")
    far = Tunnelled(IPv4Network("10.88.9.0/24"), IPv4Address("198.51.100.3"))
    assert found.routes == {near, far}
    assert found.tunnels
    assert list(map(str, found.pods)) == ["10.88.1.0/24", "10.88.2.0/24", "10.88.9.0/24"]
    assert list(map(str, found.machines)) == ["192.0.2.2", "198.51.100.3"]


def test_the_narrowest_link_is_taken() -> None:
    here = Machine([*HERE.addresses, ("wide", IPv4Interface("192.0.0.9/16"))])
    (route,) = plan("m1", [OWN, subnet("m2", "192.0.2.2", "10.88.2.0/24")], here).routes
    assert isinstance(route, Direct)
    assert route.device == "eth0"


@pytest.mark.parametrize("marked", ["m1", "m2"])
def test_a_marked_machine_is_at_the_end_of_a_tunnel_both_ways(marked: str) -> None:
    cell = [OWN, subnet("m2", "192.0.2.2", "10.88.2.0/24"), subnet("m3", "192.0.2.3", "10.88.3.0/24")]
    cell = [replace(one, tunnel=one.name == marked) for one in cell]
    routes = plan("m1", cell, HERE).routes
    tunnelled = {str(route.network) for route in routes if isinstance(route, Tunnelled)}
    assert tunnelled == ({"10.88.2.0/24"} if marked == "m2" else {"10.88.2.0/24", "10.88.3.0/24"})


def test_who_is_here_or_nowhere_needs_no_route_and_keeps_addresses() -> None:
    others = [
        subnet("twin", "192.0.2.1", "10.88.2.0/24"),
        subnet("b", "127.0.0.3", "10.88.4.0/24"),
        subnet("new", "", "10.88.8.0/24"),
    ]
    found = plan("m1", [OWN, *others], HERE)
    assert not found.routes
    assert not found.machines
    assert len(found.pods) == 4


def test_what_means_something_else_here_is_left_alone_and_named() -> None:
    docker = Foreign(IPv4Network("10.88.0.0/16"), "docker0", connected=True)
    office = Foreign(IPv4Network("10.0.0.0/8"), "eth0", connected=False)
    host = Foreign(IPv4Network("10.92.1.7/32"), "eth0", connected=False)
    here = Machine(HERE.addresses, [LINK, docker, office, host])
    subnets = [
        subnet(f"m{last}", f"192.0.2.{last}", net)
        for last, net in ((2, "10.88.2.0/24"), (3, "10.90.1.0/24"), (4, "10.92.1.0/24"))
    ]
    found = plan("m1", subnets, here)
    assert [str(route.network) for route in found.routes] == ["10.90.1.0/24"]
    assert found.conflicts == (
        "10.88.2.0/24 of m2 overlaps the route 10.88.0.0/16 of docker0",
        "10.92.1.0/24 of m4 overlaps the route 10.92.1.7/32 of eth0",
    )
    assert [str(network) for network in found.pods] == ["10.90.1.0/24"]


def test_a_taken_subnet_is_given_up_for_one_that_is_free_here_and_there() -> None:
    first, second, third = [one for one, _ in zip(candidates("m1"), range(3), strict=False)]
    others = [subnet("m2", "192.0.2.2", str(first)), subnet("m1", "", str(second))]
    assert is_taken(first, "m1", others)
    assert not is_taken(second, "m1", others)
    assert propose("m1", others, HERE) == second
    assert propose("m1", others, Machine(foreign=[Foreign(second, "x", connected=True)])) == third
    assert propose("m1", [subnet("m2", "", str(SPACE), str(SPARE))], HERE) is None


names = st.sampled_from([f"m{number}" for number in range(1, 10)])
hosts = st.one_of(
    st.just(""),
    st.builds("192.0.2.{}".format, st.integers(1, 254)),
    st.builds("198.51.100.{}".format, st.integers(1, 254)),
    st.just("127.0.0.2"),
)


@st.composite
def cells(draw: st.DrawFn) -> list[HostSubnet]:
    """Machines of different names, with subnets that do not overlap, as the cell assigns them."""
    found: dict[str, HostSubnet] = {}
    taken: list[IPv4Network] = []
    for name in draw(st.lists(names, unique=True, max_size=8)):
        network = first_free(name, taken)
        assert network is not None
        taken.append(network)
        found[name] = HostSubnet(name, draw(hosts), (network,))
    return list(found.values())


foreigners = st.lists(
    st.builds(
        lambda network, prefix, connected: Foreign(IPv4Network((int(network), prefix), strict=False), "x", connected),
        st.ip_addresses(v=4, network="10.88.0.0/13"),
        st.integers(8, 32),
        st.booleans(),
    ),
    max_size=4,
)


@given(cells(), foreigners)
def test_each_other_machine_is_reached_once_or_named(cell: list[HostSubnet], foreign: list[Foreign]) -> None:
    here = Machine(HERE.addresses, foreign)
    found = plan("m1", cell, here)
    routed = {route.network for route in found.routes}
    assert len(routed) == len(found.routes)
    for one in cell:
        host = IPv4Address(one.host or "0.0.0.0")
        away = one.name != "m1" and bool(one.host) and not host.is_loopback and str(host) != "192.0.2.1"
        named = any(f" of {one.name} " in words for words in found.conflicts)
        assert (one.networks[0] in routed) == (away and not named)
        assert named <= away
    for route in found.routes:
        via = route.via if isinstance(route, Direct) else route.remote
        assert via in found.machines
        assert isinstance(route, Direct) == (via in IPv4Network("192.0.2.0/24"))
        assert not any(other.connected and other.network.overlaps(route.network) for other in foreign)
        assert any(route.network.subnet_of(network) for network in found.pods)


def perform(present: frozenset[Route], wanted: frozenset[Route]) -> frozenset[Route]:
    """What the kernel has after the changes: one route for a network."""
    made = changes(present, wanted)
    table = {route.network: route for route in present}
    for route in made.drop:
        assert table.pop(route.network) == route
    table.update({route.network: route for route in made.put})
    return frozenset(table.values())


@given(cells(), cells())
def test_changes_lead_from_any_state_to_the_wanted_one_and_then_end(
    old: list[HostSubnet], new: list[HostSubnet]
) -> None:
    before, after = plan("m1", old, HERE).routes, plan("m1", new, HERE).routes
    assert perform(before, after) == after
    done = changes(after, after)
    assert (done.drop, done.put) == ((), ())
    kept = before & after
    made = changes(before, after)
    assert not kept & {*made.drop, *made.put}

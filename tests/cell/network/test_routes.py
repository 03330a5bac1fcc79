"""Pods reach pods on every machine, as who they are; what is not ours stays, and what is ours goes with its machine."""

import asyncio
import os
import socket
from dataclasses import replace

import pytest
from tests.cell.network.conftest import HOSTS, Machine, fetch, inside, ip, subnets

from corral.network.programs import Names, Programs

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")
Machines = dict[str, Machine]
ALL = subnets("a", "b", "c")


async def follow(machines: Machines) -> None:
    await asyncio.gather(*(one.follow(ALL) for one in machines.values()))


async def test_pods_reach_pods_everywhere_with_their_own_addresses(machines: Machines) -> None:
    a, b, c = machines.values()
    with pytest.raises((TimeoutError, OSError)):
        await fetch(a, b, 1, seconds=0.3)
    await follow(machines)
    # The tunnel's packets are smaller than the pods': a large transfer shows that they get through all the same.
    for one, other in ((a, b), (b, a), (a, c), (c, b)):
        assert await fetch(one, other, 1_000_000) == (one.pod, 1_000_000)
    assert f"{b.pod[:-1]}0/24 via {HOSTS['b']} dev eth0" in a.ours()
    assert f"encap ip id 1 src 0.0.0.0 dst {HOSTS['c']}" in a.ours()


async def test_a_machine_itself_reaches_pods_through_the_tunnel(machines: Machines) -> None:
    await follow(machines)
    a, c = machines["a"], machines["c"]
    loop = asyncio.get_running_loop()
    with (
        inside(c.pod_namespace, lambda: socket.create_server((c.pod, 8080))) as listening,
        inside(a.namespace, lambda: socket.socket()) as sender,
    ):
        listening.setblocking(False)
        sender.setblocking(False)
        async with asyncio.timeout(5):
            await loop.sock_connect(sender, (c.pod, 8080))
            receiver, (address, _) = await loop.sock_accept(listening)
        receiver.close()
    assert address == "10.88.1.0"


async def test_the_way_out_is_still_under_the_machines_address(machines: Machines) -> None:
    await follow(machines)
    a, b = machines["a"], machines["b"]
    loop = asyncio.get_running_loop()
    with (
        inside(b.namespace, lambda: socket.create_server((HOSTS["b"], 8080))) as listening,
        inside(a.pod_namespace, lambda: socket.socket()) as sender,
    ):
        listening.setblocking(False)
        sender.setblocking(False)
        async with asyncio.timeout(5):
            await loop.sock_connect(sender, (HOSTS["b"], 8080))
            receiver, (address, _) = await loop.sock_accept(listening)
        receiver.close()
    assert address == HOSTS["a"]


async def test_a_machine_that_leaves_leaves_no_route_and_nobody_elses_goes(machines: Machines) -> None:
    await follow(machines)
    a = machines["a"]
    foreign = f"172.30.0.0/16 via {HOSTS['b']} dev eth0"
    ip(a.namespace, f"route add {foreign}", "route add 172.31.0.0/16 dev eth0 proto 67 table 4711")
    await a.follow(subnets("a", "b"))
    assert HOSTS["c"] not in a.ours()
    await a.follow(subnets("a"))
    assert a.ours().split() == ["172.31.0.0/16", "dev", "eth0", "table", "4711", "scope", "link"]
    assert foreign in ip(a.namespace, "route show")


async def test_routes_stand_while_there_is_no_keeper_and_a_new_one_finds_them(machines: Machines) -> None:
    await follow(machines)
    a = machines["a"]
    before = a.ours()
    found = await a.programs.read()
    assert len(found.routes) == 2
    wanted = await a.follow(ALL)
    assert found.routes == wanted.routes
    assert a.ours() == before
    # The kernel forgets the routes of a link that goes down.
    ip(a.namespace, "link set eth0 down", "link set eth0 up", "route add default via 10.77.0.254")
    assert HOSTS["b"] not in a.ours()
    await a.follow(ALL)
    assert a.ours() == before


async def test_a_route_that_changes_its_kind_is_replaced(machines: Machines) -> None:
    a = machines["a"]
    await a.follow(ALL)
    ip(a.namespace, "addr add 10.77.9.77/24 dev eth0")
    await a.follow(ALL)
    assert "encap" not in a.ours()
    assert a.ours().count("10.88.3.0/24") == 1
    ip(a.namespace, "addr del 10.77.9.77/24 dev eth0")
    await a.follow(ALL)
    assert a.ours().count("10.88.3.0/24") == 1
    assert "encap" in a.ours()


async def test_machines_that_are_marked_tunnel_on_one_link(machines: Machines) -> None:
    a, b, _ = machines.values()
    marked = [replace(one, tunnel=one.name == "a") for one in ALL]
    await asyncio.gather(*(one.follow(ALL) for one in (a, b)))
    await asyncio.gather(*(one.follow(marked) for one in (a, b)))
    assert "via" not in a.ours() + b.ours()
    assert await fetch(a, b, 1_000_000) == (a.pod, 1_000_000)
    assert await fetch(b, a, 1_000_000) == (b.pod, 1_000_000)


async def test_tunnelled_packets_of_strangers_are_dropped(machines: Machines) -> None:
    await follow(machines)
    a, c = machines["a"], machines["c"]
    with (
        inside(c.pod_namespace, lambda: socket.socket(type=socket.SOCK_DGRAM)) as receiver,
        inside(a.pod_namespace, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender,
    ):
        receiver.bind((c.pod, 8080))
        receiver.settimeout(2)
        sender.sendto(b"from a member", (c.pod, 8080))
        assert receiver.recv(100) == b"from a member"
        await c.follow(subnets("b", "c"))
        receiver.settimeout(0.3)
        sender.sendto(b"from a stranger", (c.pod, 8080))
        with pytest.raises(TimeoutError):
            receiver.recv(100)


async def test_removing_leaves_nothing(machines: Machines) -> None:
    await follow(machines)
    a = machines["a"]
    for _ in range(2):
        await a.programs.remove()
        assert a.ours() == ""
        assert a.names.device not in ip(a.namespace, "link show")
        assert str(a.names.routes) not in ip(a.namespace, "rule show")


async def test_two_cells_on_one_machine_do_not_take_each_others_routes(machines: Machines) -> None:
    a, known = machines["a"], subnets("a", "b")
    await a.follow(known)
    names = Names("corral-othercell")
    other = replace(a, names=names, programs=Programs(names, ("ip", "netns", "exec", a.namespace)))
    wanted = await other.follow(known)
    assert not wanted.routes
    assert wanted.conflicts == (f"10.88.2.0/24 of b overlaps the route 10.88.2.0/24 of eth0 in table {a.names.routes}",)
    assert (await a.follow(known)).conflicts == (), "who was first has its way"
    await a.programs.remove()
    assert (await other.follow(known)).conflicts == ()
    assert (await a.follow(known)).conflicts != ()
    await other.programs.remove()

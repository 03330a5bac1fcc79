"""Machines propose subnets, the cell assigns them, and tells all machines: through a real API."""

import asyncio
from ipaddress import IPv4Network
from itertools import combinations, islice
from typing import Any

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.client.client import Client
from corral.kinds.podnetwork import PROPOSAL, TUNNEL, candidates, read
from corral.kinds.resources import EVENTS, HOST_SUBNETS, NODES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

FIRST, SECOND = map(str, islice(candidates("cell"), 2))


def node(name: str, proposal: str = "", cidr: str = "") -> Obj:
    annotations = {PROPOSAL: proposal} if proposal else {}
    spec = {"podCIDR": cidr, "podCIDRs": [cidr]} if cidr else {}
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "annotations": annotations},
        "spec": spec,
    }


def agent(cell: Any, name: str) -> Client:
    user = User(f"system:node:{name}", ("system:nodes", "system:authenticated"))
    return Client(InProcessTransport(cell.server, user))


async def test_a_proposal_is_assigned_and_told_with_the_machines_address(cell: Any) -> None:
    mine = agent(cell, "n1")
    await mine.create(NODES, node("n1", FIRST))
    await cell.until(HOST_SUBNETS, "n1", lambda subnet: subnet["spec"] == {"podCIDRs": [FIRST]}, "")
    said = await cell.client.get(NODES, "n1")
    assert (said["spec"]["podCIDR"], said["spec"]["podCIDRs"]) == (FIRST, [FIRST])
    addresses = [{"type": "InternalIP", "address": "192.0.2.7"}]
    await mine.patch(NODES, "n1", {"status": {"addresses": addresses}}, subresource="status")
    await cell.until(HOST_SUBNETS, "n1", lambda subnet: subnet["spec"].get("hostIP") == "192.0.2.7", "")
    for mark, told in (("true", True), (None, None)):
        await cell.client.patch(NODES, "n1", {"metadata": {"labels": {TUNNEL: mark}}})
        await cell.until(HOST_SUBNETS, "n1", lambda subnet, told=told: subnet["spec"].get("tunnel") is told, "")
    await cell.client.delete(NODES, "n1")
    await cell.until_gone(HOST_SUBNETS, "n1", "")


async def test_machines_that_come_at_once_and_want_the_same_get_different_ones(cell: Any) -> None:
    names = [f"n{number}" for number in range(20)]
    await asyncio.gather(*(cell.client.create(NODES, node(name, FIRST)) for name in names))
    (winner,) = await cell.until_list(HOST_SUBNETS, lambda items: len(items) == 1, "")
    # The others see it and want something else, again all the same.
    for turn, wanted in enumerate(islice(candidates("cell"), 1, len(names)), 2):
        taken = {item["metadata"]["name"] for item in (await cell.client.list(HOST_SUBNETS))["items"]}
        patch = {"metadata": {"annotations": {PROPOSAL: str(wanted)}}}
        await asyncio.gather(*(cell.client.patch(NODES, name, patch) for name in names if name not in taken))
        items = await cell.until_list(HOST_SUBNETS, lambda items, turn=turn: len(items) == turn, "")
    networks = [network for item in items for network in read(item).networks]
    assert winner["metadata"]["name"] in {item["metadata"]["name"] for item in items}
    assert len(networks) == len(names)
    assert not any(one.overlaps(other) for one, other in combinations(networks, 2))


@pytest.mark.parametrize("proposal", ["0.0.0.0/0", "10.88.0.0/13", "192.0.2.0/24", "10.88.1.0/25", "fd00::/64", "x"])
async def test_what_no_machine_may_have_is_not_assigned(cell: Any, proposal: str) -> None:
    await cell.client.create(NODES, node("bad", proposal))
    await cell.client.create(NODES, node("good", FIRST))
    await cell.until(HOST_SUBNETS, "good", lambda subnet: True, "")
    assert [item["metadata"]["name"] for item in (await cell.client.list(HOST_SUBNETS))["items"]] == ["good"]
    assert not (await cell.client.get(NODES, "bad"))["spec"].get("podCIDR")


async def test_an_administrators_subnet_stands_unless_another_machine_has_it(cell: Any) -> None:
    await cell.client.create(NODES, node("n1", cidr="172.30.0.0/16"))
    await cell.until(HOST_SUBNETS, "n1", lambda subnet: read(subnet).networks == (IPv4Network("172.30.0.0/16"),), "")
    await cell.client.create(NODES, node("n2", cidr="172.30.7.0/24"))
    await cell.until_list(EVENTS, lambda items: any(event["reason"] == "CIDRNotAvailable" for event in items))
    assert len((await cell.client.list(HOST_SUBNETS))["items"]) == 1
    await cell.client.delete(NODES, "n1")
    await cell.until(HOST_SUBNETS, "n2", lambda subnet: True, "")


async def test_agents_read_all_subnets_and_write_none(cell: Any) -> None:
    mine = agent(cell, "n1")
    await mine.create(NODES, node("n1", FIRST))
    subnet = await cell.until(HOST_SUBNETS, "n1", lambda subnet: True, "")
    other = agent(cell, "n2")
    await other.create(NODES, node("n2"))
    assert (await mine.list(HOST_SUBNETS))["items"] == [subnet]
    refused = [
        mine.patch(HOST_SUBNETS, "n1", {"spec": {"podCIDRs": ["0.0.0.0/0"]}}),
        mine.delete(HOST_SUBNETS, "n1"),
        mine.create(HOST_SUBNETS, {**subnet, "metadata": {"name": "n2"}}),
        other.create(NODES, node("n2", cidr=SECOND)),
        other.patch(NODES, "n2", {"spec": {"podCIDR": FIRST, "podCIDRs": [FIRST]}}),
    ]
    for attempt in refused:
        with pytest.raises(StatusError) as error:
            await attempt
        assert error.value.code == 403

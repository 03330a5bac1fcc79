"""Gangs in the live scheduler: who waits, what is said, and that nobody ever holds half."""

import asyncio
from collections.abc import Callable, Iterable

from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.client.api import ApiRequest, ApiResponse
from corral.kinds.podgroups import LABEL
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, POD_GROUPS, PODS, PRIORITY_CLASSES
from corral.kinds.types import Obj
from corral.testing.clock import FakeClock
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import SCHEDULER, Cell, is_bound


async def group(cell: Cell, name: str, minimum: int) -> None:
    """A PodGroup of Kubernetes' own kind."""
    spec = {"schedulingPolicy": {"gang": {"minCount": minimum}}}
    metadata = {"name": name, "namespace": "default"}
    obj = {"kind": "PodGroup", "apiVersion": POD_GROUPS.api_version, "metadata": metadata, "spec": spec}
    await cell.client.create(POD_GROUPS, obj)


def members(name: str, numbers: Iterable[int], **fields: object) -> list[Obj]:
    reference = {"podGroupName": name}
    return [pod(f"{name}-{number}", cpu="1", schedulingGroup=reference, **fields) for number in numbers]  # type: ignore[arg-type]


async def nodes_of(cell: Cell, name: str, count: int) -> list[str]:
    """Where the members are, as soon as all are bound."""
    return [await cell.bound(f"{name}-{number}") for number in range(count)]


async def free_of(cell: Cell, name: str) -> bool:
    """Whether no member is bound."""
    listed = await cell.client.list(PODS, "default")
    return not any(is_bound(one) for one in listed["items"] if one["metadata"]["name"].startswith(f"{name}-"))


async def until(cell: Cell, holds: Callable[[list[Obj]], bool]) -> list[Obj]:
    """All pods, as soon as they are as wanted."""
    async with asyncio.timeout(20):
        while True:
            pods = (await cell.client.list(PODS, "default"))["items"]
            if holds(pods):
                return list(pods)
            await asyncio.sleep(0.02)


def are_ending(pods: Iterable[Obj]) -> list[Obj]:
    """Those that are being deleted."""
    return [one for one in pods if one["metadata"].get("deletionTimestamp")]


def is_nominated(one: Obj) -> bool:
    """Whether room is being made for the pod."""
    return bool((one.get("status") or {}).get("nominatedNodeName"))


async def test_a_gang_waits_for_its_members_and_is_then_bound_whole(cell: Cell) -> None:
    await cell.add(node("a", cpu="2"), node("b", cpu="2"))
    scheduler = await cell.schedule()
    await group(cell, "g", 4)
    await cell.add(*members("g", range(2)))
    await cell.refused("g-0", "pod group g waits for 2 more of 4 members")
    assert scheduler.why("default", "g-1")["message"] == "pod group g waits for 2 more of 4 members"
    await cell.add(*members("g", range(2, 4)))
    assert sorted(await nodes_of(cell, "g", 4)) == ["a", "a", "b", "b"]


async def test_members_that_came_before_their_group_go_when_it_comes(cell: Cell) -> None:
    await cell.add(node("a"))
    await cell.schedule()
    await cell.add(*members("g", range(2)))
    await cell.refused("g-0", "pod group g does not exist")
    await group(cell, "g", 2)
    assert await nodes_of(cell, "g", 2) == ["a", "a"]


async def test_the_coscheduling_plugins_group_is_named_by_a_label(cell: Cell) -> None:
    await cell.add(node("a", cpu="2"))
    await cell.schedule()
    metadata = {"name": "g", "namespace": "default"}
    kind = {"kind": "PodGroup", "apiVersion": COSCHEDULING_POD_GROUPS.api_version}
    await cell.client.create(COSCHEDULING_POD_GROUPS, {**kind, "metadata": metadata, "spec": {"minMember": 3}})
    await cell.add(*(pod(f"g-{number}", cpu="1", labels={LABEL: "g"}) for number in range(3)))
    await cell.refused("g-2", "pod group g: only 2 of 3 members fit: 0/1 nodes are available: 1 Insufficient cpu.")
    assert await free_of(cell, "g")
    await cell.client.patch(COSCHEDULING_POD_GROUPS, "g", {"spec": {"minMember": 2}}, "default")
    await until(cell, lambda pods: sum(map(is_bound, pods)) == 2)


async def test_of_two_gangs_one_runs_and_the_other_follows(cell: Cell) -> None:
    await cell.add(node("a", cpu="2"), node("b", cpu="2"))
    scheduler = await cell.schedule()
    for name in ("one", "two"):
        await group(cell, name, 3)
    mixed = [one for pair in zip(members("one", range(3)), members("two", range(3)), strict=True) for one in pair]
    await cell.add(*mixed)
    await nodes_of(cell, "one", 3)
    await cell.refused("two-0", "pod group two: only 1 of 3 members fit")
    assert await free_of(cell, "two")
    story = scheduler.why("default", "two-1")
    assert story["message"].startswith("pod group two: only 1 of 3 members fit: 0/2 nodes are available")
    assert not story["scheduled"]
    for number in range(3):
        await cell.client.delete(PODS, f"one-{number}", "default", grace=0)
    assert len(await nodes_of(cell, "two", 3)) == 3


async def test_a_refused_gang_is_retried_after_a_growing_back_off(cell: Cell) -> None:
    await cell.add(node("a", cpu="1"))
    clock = FakeClock()
    await cell.schedule(clock=clock)
    await group(cell, "g", 3)
    await cell.add(*members("g", range(3)))
    await cell.refused("g-0", "only 1 of 3 members fit")
    await cell.add(node("b", cpu="1"))
    await clock.advance(0.9)
    assert "0/1 nodes" in (await cell.refused("g-0"))["message"]
    await clock.advance(0.2)
    await cell.refused("g-0", "only 2 of 3 members fit: 0/2 nodes")
    await cell.add(node("c", cpu="1"))
    await clock.advance(1.5)
    assert await free_of(cell, "g")
    await clock.advance(0.6)
    assert sorted(await nodes_of(cell, "g", 3)) == ["a", "b", "c"]


async def test_a_member_that_ended_is_replaced_and_one_that_succeeded_is_not_missed(cell: Cell) -> None:
    await cell.add(node("a", cpu="3"))
    await cell.schedule()
    await group(cell, "g", 3)
    await cell.add(*members("g", range(3)))
    await nodes_of(cell, "g", 3)
    await cell.client.patch(PODS, "g-0", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    await cell.client.patch(PODS, "g-1", {"status": {"phase": "Failed"}}, "default", subresource="status")
    await cell.add(*members("g", [3]))
    assert await cell.bound("g-3") == "a"


async def test_a_more_important_gang_gets_room_for_all_or_takes_nobody_away(cell: Cell) -> None:
    kind = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": "high"}}
    await cell.client.create(PRIORITY_CLASSES, {**kind, "value": 1000})
    await cell.add(node("a", cpu="2"), node("b", cpu="2"))
    await cell.add(*(pod(f"low-{number}", cpu="1", nodeName=name) for number, name in enumerate("aabb")))
    await cell.schedule()
    await group(cell, "large", 5)
    await cell.add(*members("large", range(5), priorityClassName="high"))
    await cell.refused("large-0", "pod group large: only 0 of 5 members fit")
    assert not are_ending(await until(cell, bool))

    await group(cell, "small", 3)
    await cell.add(*members("small", range(3), priorityClassName="high"))
    for number in range(3):
        await cell.until(f"small-{number}", lambda found: bool(found["status"].get("nominatedNodeName")))
    ending = [one["metadata"]["name"] for one in are_ending(await until(cell, lambda pods: len(are_ending(pods)) == 3))]
    for name in ending[:2]:
        await cell.client.delete(PODS, name, "default", grace=0)
    await cell.refused("small-2", "only 2 of 3 members fit")
    assert await free_of(cell, "small")
    await cell.client.delete(PODS, ending[2], "default", grace=0)
    assert len(await nodes_of(cell, "small", 3)) == 3


async def test_a_gang_that_loses_the_room_of_some_members_gives_up_that_of_the_others(cell: Cell) -> None:
    kind = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1"}
    for name, value in (("middle", 100), ("high", 1000)):
        await cell.client.create(PRIORITY_CLASSES, {**kind, "metadata": {"name": name}, "value": value})
    await cell.add(node("a", cpu="2"), node("b", cpu="2"))
    await cell.add(*(pod(f"low-{number}", cpu="1", nodeName=name) for number, name in enumerate("aabb")))
    await cell.schedule()
    await group(cell, "g", 4)
    await cell.add(*members("g", range(4), priorityClassName="middle"))
    await until(cell, lambda pods: sum(map(is_nominated, pods)) == 4 and len(are_ending(pods)) == 4)
    await cell.add(pod("vip", cpu="2", priorityClassName="high"))
    await until(cell, lambda pods: [one["metadata"]["name"] for one in pods if is_nominated(one)] == ["vip"])
    await cell.refused("g-0", "pod group g: only 0 of 4 members fit")
    for number in range(4):
        await cell.client.delete(PODS, f"low-{number}", "default", grace=0)
    await cell.bound("vip")
    await cell.refused("g-3", "pod group g: only 2 of 4 members fit")
    assert await free_of(cell, "g")


class _Refusing(InProcessTransport):
    """Its bindings of one pod fail until told otherwise."""

    def __init__(self, server: ApiServer, name: str) -> None:
        super().__init__(server, SCHEDULER)
        self._path = f"/pods/{name}/binding"
        self.broken = True
        self.tried = asyncio.Event()

    async def call(self, request: ApiRequest) -> ApiResponse:
        if self.broken and request.path.endswith(self._path):
            self.tried.set()
            raise ConnectionResetError("the wire was cut")
        return await super().call(request)


async def test_a_member_whose_binding_failed_follows_the_others(cell: Cell) -> None:
    await cell.add(node("a", cpu="3"))
    transport, clock = _Refusing(cell.server, "g-1"), FakeClock()
    await cell.schedule(transport, clock=clock)
    await group(cell, "g", 3)
    await cell.add(*members("g", range(3)))
    await transport.tried.wait()
    assert [await cell.bound("g-0"), await cell.bound("g-2")] == ["a", "a"]
    transport.broken = False
    await clock.advance(1.1)
    assert await cell.bound("g-1") == "a"

"""The live scheduler on a real API server in this process, as its own user, under RBAC."""

import asyncio
import random

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.apiserver.server import ApiServer
from corral.base.clock import SystemClock
from corral.client.api import ApiRequest, ApiResponse
from corral.kinds import conditions
from corral.kinds.resources import NAMESPACES, NODES, PODS, PRIORITY_CLASSES
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.scheduler.profile import PACKING
from corral.scheduler.scheduler import Scheduler
from corral.testing.clock import FakeClock
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import SCHEDULER, Cell, is_bound


async def test_a_pod_is_bound_and_an_event_says_so(cell: Cell) -> None:
    await cell.add(node("a"))
    scheduler = await cell.schedule()
    await cell.add(pod("p", cpu="1"))
    assert await cell.bound("p") == "a"
    event = await cell.event("p", "Scheduled")
    assert (event["type"], event["message"]) == ("Normal", "Successfully assigned default/p to a")
    assert event["action"] == "Binding"
    assert event["source"]["component"] == "default-scheduler"
    assert scheduler.why("default", "p")["node"] == "a"
    with pytest.raises(StatusError, match='pods "none" not found'):
        scheduler.why("default", "none")


async def test_a_refused_pod_says_why_and_is_bound_when_a_machine_comes(cell: Cell) -> None:
    scheduler = await cell.schedule()
    await cell.add(node("a", cpu="1"), node("b", taints=["gpu=yes:NoSchedule"]), pod("p", cpu="2"))
    message = (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s). "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
    condition = await cell.refused("p", message)
    assert condition["reason"] == "Unschedulable"
    event = await cell.event("p", "FailedScheduling")
    assert (event["type"], event["action"], event["message"]) == ("Warning", "Scheduling", message)
    assert event["reportingComponent"] == "default-scheduler"
    assert scheduler.why("default", "p")["closest"]["missing"] == {"cpu": "1"}
    await cell.add(node("c"))
    assert await cell.bound("p") == "c"


async def test_a_pod_that_ends_makes_room(cell: Cell) -> None:
    await cell.add(node("a", cpu="1"))
    await cell.schedule()
    await cell.add(pod("first", cpu="1"))
    await cell.bound("first")
    await cell.add(pod("second", cpu="1"), pod("third", cpu="1"))
    await cell.refused("second", "Insufficient cpu")
    await cell.client.patch(PODS, "first", {"status": {"phase": "Succeeded"}}, "default", subresource="status")
    assert await cell.bound("second") == "a"
    await cell.refused("third", "Insufficient cpu")
    await cell.client.delete(PODS, "second", "default", grace=0)
    assert await cell.bound("third") == "a"


async def test_gates_and_other_schedulers_are_respected(cell: Cell) -> None:
    await cell.add(node("a"))
    await cell.schedule()
    await cell.add(pod("gated", schedulingGates=[{"name": "example.com/wait"}]), pod("other", schedulerName="mine"))
    await cell.add(pod("plain"))
    await cell.bound("plain")
    for name in ("gated", "other"):
        assert not is_bound(await cell.client.get(PODS, name, "default"))
    await cell.client.patch(PODS, "gated", {"spec": {"schedulingGates": None}}, "default")
    assert await cell.bound("gated") == "a"
    await cell.schedule(name="mine")
    assert await cell.bound("other") == "a"


async def test_pods_are_placed_by_the_rules_of_the_scheduler_that_they_name(cell: Cell) -> None:
    await cell.add(node("a"), node("b"), pod("there", cpu="1", nodeName="a"))
    scheduler = await cell.schedule(others={"packing": PACKING})
    await cell.add(pod("spread", cpu="100m"), pod("packed", cpu="100m", schedulerName="packing"))
    assert await cell.bound("spread") == "b"
    assert await cell.bound("packed") == "a"
    await cell.add(pod("big", cpu="9", schedulerName="packing"), pod("lost", cpu="1", schedulerName="none"))
    await cell.refused("big", "Insufficient cpu")
    assert scheduler.why("default", "big")["hints"] == []
    assert "asks for the scheduler 'none'" in scheduler.why("default", "lost")["message"]


async def test_a_cordoned_machine_is_used_again_when_it_is_uncordoned(cell: Cell) -> None:
    await cell.add(node("a", unschedulable=True))
    await cell.schedule()
    await cell.add(pod("p"))
    await cell.refused("p", "1 node(s) were unschedulable")
    await cell.client.patch(NODES, "a", {"spec": {"unschedulable": None}})
    assert await cell.bound("p") == "a"


async def test_many_pods_at_once_never_overcommit_and_a_new_scheduler_goes_on(cell: Cell) -> None:
    await cell.add(*(node(f"n{number}", cpu="1") for number in range(10)))
    first = asyncio.create_task(Scheduler(cell.client, clock=SystemClock(), rng=random.Random(1)).run())
    await cell.add(*(pod(f"early-{number}", cpu="300m") for number in range(15)))
    await cell.bound("early-14")
    first.cancel()
    await asyncio.wait([first])
    await cell.add(*(pod(f"late-{number}", cpu="300m") for number in range(20)))
    await cell.schedule()
    refused = 0
    for number in range(20):
        found = await cell.until(
            f"late-{number}", lambda p: is_bound(p) or conditions.get(p, "PodScheduled") is not None
        )
        refused += not is_bound(found)
    assert refused == 5
    counts: dict[str, int] = {}
    for found in (await cell.client.list(PODS, "default"))["items"]:
        if is_bound(found):
            counts[found["spec"]["nodeName"]] = counts.get(found["spec"]["nodeName"], 0) + 1
    assert counts == {f"n{number}": 3 for number in range(10)}


class _Unsteady(InProcessTransport):
    """Loses the first binding on its way."""

    def __init__(self, server: ApiServer, user: User) -> None:
        super().__init__(server, user)
        self.lost = asyncio.Event()

    async def call(self, request: ApiRequest) -> ApiResponse:
        if request.path.endswith("/binding") and not self.lost.is_set():
            self.lost.set()
            raise ConnectionResetError("the wire was cut")
        return await super().call(request)


async def test_a_failed_binding_is_taken_back_and_tried_again(cell: Cell) -> None:
    await cell.add(node("a", cpu="1"))
    transport, clock = _Unsteady(cell.server, SCHEDULER), FakeClock()
    await cell.schedule(transport, clock=clock)
    await cell.add(pod("p", cpu="1"))
    await transport.lost.wait()
    await clock.advance(1.0)
    assert await cell.bound("p") == "a"


async def test_a_pod_goes_where_the_one_it_seeks_arrives(cell: Cell) -> None:
    await cell.add(*(node(name, labels={"zone": name}) for name in ("a", "b", "c")))
    await cell.schedule()
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    await cell.add(pod("seeker", affinity={"podAffinity": required}))
    await cell.refused("seeker", "3 node(s) didn't match pod affinity rules")
    await cell.add(pod("db", labels={"app": "db"}))
    assert await cell.bound("seeker") == await cell.bound("db")
    await cell.add(pod("loner", affinity={"podAntiAffinity": required}))
    assert await cell.bound("loner") != await cell.bound("db")


async def test_namespaces_are_chosen_by_their_labels(cell: Cell) -> None:
    await cell.add(node("a"))
    await cell.schedule()
    await cell.add(pod("db", labels={"app": "db"}))
    await cell.bound("db")
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app": "db"}},
        "namespaceSelector": {"matchLabels": {"team": "x"}},
    }
    await cell.add(pod("p", affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}))
    await cell.refused("p")
    await cell.client.patch(NAMESPACES, "default", {"metadata": {"labels": {"team": "x"}}})
    assert await cell.bound("p") == "a"


def priority_class(name: str, value: int, policy: str = "PreemptLowerPriority") -> Obj:
    metadata = {"name": name}
    return {
        "kind": "PriorityClass",
        "apiVersion": "scheduling.k8s.io/v1",
        "metadata": metadata,
        "value": value,
        "preemptionPolicy": policy,
    }


async def test_a_more_important_pod_gets_its_room_when_the_victim_is_gone(cell: Cell) -> None:
    await cell.client.create(PRIORITY_CLASSES, priority_class("high", 1000))
    await cell.client.create(PRIORITY_CLASSES, priority_class("patient", 1000, "Never"))
    await cell.add(node("a", cpu="1"))
    scheduler = await cell.schedule()
    await cell.add(pod("low", cpu="1"))
    await cell.bound("low")
    await cell.add(pod("patient", cpu="1", priorityClassName="patient"))
    await cell.refused("patient", "Insufficient cpu")
    await cell.add(pod("high", cpu="1", priorityClassName="high"))
    victim = await cell.until("low", lambda found: bool(found["metadata"].get("deletionTimestamp")))
    assert victim["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (conditions.get(victim, "DisruptionTarget") or {})["reason"] == "PreemptionByScheduler"
    await cell.until("high", lambda found: found.get("status", {}).get("nominatedNodeName") == "a")
    assert "less important pods are being ended on a" in " ".join(scheduler.why("default", "high")["hints"])
    event = await cell.event("low", "Preempted")
    assert event["message"].endswith("on node a")
    assert (event["action"], event["related"]["name"]) == ("Preempting", "high")
    assert not is_bound(await cell.client.get(PODS, "high", "default"))
    await cell.client.delete(PODS, "low", "default", grace=0)
    assert await cell.bound("high") == "a"
    assert not is_bound(await cell.client.get(PODS, "patient", "default"))


async def test_a_nomination_outlives_the_scheduler(cell: Cell) -> None:
    await cell.client.create(PRIORITY_CLASSES, priority_class("high", 1000))
    await cell.add(node("a", cpu="1"), node("b", cpu="1"))
    for name in ("a", "b"):
        await cell.add(pod(f"low-{name}", cpu="1", nodeName=name))
    async with cell.scheduling():
        await cell.add(pod("high", cpu="1", priorityClassName="high"))
        nominated = await cell.until("high", lambda found: bool(found.get("status", {}).get("nominatedNodeName")))
        at = nominated["status"]["nominatedNodeName"]
        await cell.until(f"low-{at}", lambda found: bool(found["metadata"].get("deletionTimestamp")))
    await cell.schedule()
    await cell.add(pod("other", cpu="1"))
    await cell.refused("other")
    await cell.client.delete(PODS, f"low-{at}", "default", grace=0)
    assert await cell.bound("high") == at
    spared = await cell.client.get(PODS, f"low-{'b' if at == 'a' else 'a'}", "default")
    assert not spared["metadata"].get("deletionTimestamp")

"""Who leaves a machine that runs short, and how that goes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent.eviction.plan import CRITICAL, Resident, Shortage, refusal, rejection, shortage, victim
from corral.agent.problems.api import Source
from corral.agent.problems.pressure import PressureSource, Reading
from corral.agent.problems.sources import Surroundings
from corral.agent.runtime.api import Image, Usage
from corral.kinds.podspec import pod_requests, priority
from corral.kinds.types import Obj

MIB = 1 << 20
WELL = Reading(1 << 30, 100 * MIB, 50 * MIB, 1000, 500, 100, 1000)
SHORT = Shortage("MemoryPressure", "memory", 50 * MIB, "100Mi", "50Mi")


def pod(name: str = "a", *, priority: int = 0, memory: int = 0, disk: int = 0, **spec: Any) -> Obj:
    asked = {"memory": str(memory), "ephemeral-storage": str(disk)}
    resources = {"requests": {key: value for key, value in asked.items() if value != "0"}}
    containers = [{"name": "main", "resources": resources}]
    return {"metadata": {"name": name}, "spec": {"containers": containers, "priority": priority, **spec}}


def resident(use: int, **fields: Any) -> Resident:
    return Resident(pod(**fields), {"main": use * MIB})


# Who.


def test_who_uses_more_than_it_asked_for_goes_before_who_has_less_priority() -> None:
    modest = resident(500, priority=-5, memory=600 * MIB)
    greedy = resident(100, priority=5, memory=50 * MIB)
    assert victim([modest, greedy], SHORT) is greedy
    assert victim([modest], SHORT) is modest


def test_then_by_priority_then_by_how_much_more() -> None:
    high, low, most = resident(900, priority=9), resident(100, priority=1), resident(200, priority=1)
    assert victim([high, low, most], SHORT) is most
    assert victim([high, low], SHORT) is low


def test_processes_know_no_requests() -> None:
    few, many = Resident(pod(), {"main": 40}), Resident(pod(), {"main": 400})
    assert victim([few, many], Shortage("PIDPressure", "pids", 30, "50", "20")) is many


def test_whose_end_would_not_help_is_spared_and_so_is_what_is_critical() -> None:
    assert victim([resident(4), resident(2000, priority=CRITICAL)], SHORT) is None
    assert victim([resident(5)], SHORT) is not None
    assert victim([], SHORT) is None


USES = st.tuples(st.integers(0, 300), st.integers(-3, 3), st.integers(0, 300))


@given(st.lists(USES, max_size=12), st.integers(0, 500))
def test_the_victim_is_the_first_of_those_who_help(uses: list[tuple[int, int, int]], missing: int) -> None:
    everyone = [resident(use, priority=rank, memory=asked * MIB) for use, rank, asked in uses]
    chosen = victim(everyone, replace(SHORT, missing=missing * MIB))
    helping = [one for one in everyone if one.use and one.use * 10 >= missing * MIB]
    assert (chosen is None) == (not helping)
    if chosen is None:
        return

    def beyond(one: Resident) -> int:
        return one.use - pod_requests(one.pod).get("memory", 0)

    assert chosen in helping
    if beyond(chosen) <= 0:
        assert all(beyond(one) <= 0 for one in helping)
    alike = [one for one in helping if (beyond(one) > 0) == (beyond(chosen) > 0)]
    assert priority(chosen.pod) == min(priority(one.pod) for one in alike)
    assert beyond(chosen) == max(beyond(one) for one in alike if priority(one.pod) == priority(chosen.pod))


# What is missing, and the words.


@pytest.mark.parametrize(
    ("condition", "reading", "expected"),
    [
        ("MemoryPressure", replace(WELL, memory_available=60 * MIB), ("memory", 40 * MIB, "100Mi", "60Mi")),
        ("DiskPressure", replace(WELL, disk_available=4 * MIB), ("ephemeral-storage", 6 * MIB, "10Mi", "4Mi")),
        ("DiskPressure", replace(WELL, inodes_free=1), ("inodes", 49, "50", "1")),
        ("PIDPressure", replace(WELL, processes=980), ("pids", 30, "50", "20")),
    ],
)
def test_what_is_missing(condition: str, reading: Reading, expected: tuple[str, int, str, str]) -> None:
    short = shortage(condition, reading)
    assert short is not None
    assert (short.resource, short.missing, short.threshold, short.available) == expected
    assert shortage(condition, WELL) is None


def test_the_kubelets_words() -> None:
    said = rejection(resident(700, memory=100 * MIB), SHORT)
    assert said.reason == "Evicted"
    assert said.message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 700Mi, request is 100Mi, has larger consumption of memory. "
    )
    assert (said.grace, said.disrupted) == (1, True)


BEARS: Obj = {"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]}


@pytest.mark.parametrize(
    ("pressures", "comes", "taken"),
    [
        ([], pod(), True),
        (["MemoryPressure"], pod(), False),
        (["MemoryPressure"], pod(memory=MIB), True),
        (["MemoryPressure"], pod(**BEARS), True),
        (["DiskPressure"], pod(memory=MIB), False),
        (["MemoryPressure", "DiskPressure"], pod(**BEARS), False),
        (["DiskPressure"], pod(priority=CRITICAL), True),
    ],
)
def test_who_is_taken_under_pressure(pressures: list[str], comes: Obj, taken: bool) -> None:
    refused = refusal(comes, pressures)
    assert (refused is None) == taken
    assert refused is None or refused.message == f"The node had condition: [{' '.join(pressures)}]. "


# How: an agent on a machine that a test makes short of something.


class Set(PressureSource):
    """A machine with as much left as a test says."""

    reading = WELL

    async def read(self) -> Reading:
        return self.reading


@pytest.fixture
async def short_rig(rig: Any) -> tuple[Any, Set]:
    made: list[Set] = []

    def sources(around: Surroundings) -> Sequence[Source[Any]]:
        made.append(Set(around.directory, around.memory, ()))
        return made

    await rig.agent.stop()
    rig.agent = rig.build(sources=sources)
    await rig.agent.start()
    return rig, made[0]


def runs(rig: Any, name: str, mib: int) -> None:
    """The pod's container uses so much memory."""
    id_ = rig.main(name)["containerID"].removeprefix("corral://")
    rig.runtime.set_usage(id_, Usage(0, mib * MIB, mib * MIB, 0, 1))


async def test_a_machine_short_of_memory_ends_one_pod_at_a_time(short_rig: tuple[Any, Set]) -> None:
    rig, pressure = short_rig
    for name, mib in (("small", 1), ("large", 400), ("larger", 500)):
        rig.add_pod(name, terminationGracePeriodSeconds=600)
        await rig.settled()
        runs(rig, name, mib)
    pressure.reading = replace(WELL, memory_available=50 * MIB)
    await rig.advance(6)
    status = rig.status("larger")
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert "low on resource: memory" in status["message"]
    target = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
    assert rig.status("large")["phase"] == "Running"
    pressure.reading = WELL
    await rig.advance(30)
    assert [rig.status(name)["phase"] for name in ("small", "large")] == ["Running", "Running"]
    told = {reason for reason, _ in rig.events()}
    assert {"Evicted", "EvictionThresholdMet", "NodeHasInsufficientMemory"} <= told

    node = rig.api.objects["/api/v1/nodes/m1"]
    held = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert held["MemoryPressure"] == "True", "it lasts a minute longer"
    rig.add_pod("late")
    await rig.settled()
    assert (rig.status("late")["phase"], rig.status("late")["reason"]) == ("Failed", "Evicted")
    await rig.advance(60)
    node = rig.api.objects["/api/v1/nodes/m1"]
    assert {one["status"] for one in node["status"]["conditions"] if one["type"] == "MemoryPressure"} == {"False"}


async def test_a_pod_that_clings_gets_a_second_and_sidecars_too(short_rig: tuple[Any, Set]) -> None:
    rig, pressure = short_rig
    clings = {"image": "host", "command": ["sh", "-c", "trap '' TERM; sleep inf"]}
    proxy = {**clings, "name": "proxy", "restartPolicy": "Always"}
    rig.add_pod(
        "web", initContainers=[proxy], containers=[{**clings, "name": "main"}], terminationGracePeriodSeconds=900
    )
    await rig.settled()
    runs(rig, "web", 400)
    pressure.reading = replace(WELL, memory_available=50 * MIB)
    await rig.advance(10)
    await rig.advance(6)
    assert [run.exit_code for run in await rig.runtime.containers()] == [137, 137]


async def test_a_full_disk_is_rid_of_what_nobody_needs_before_a_pod_must_go(short_rig: tuple[Any, Set]) -> None:
    rig, pressure = short_rig
    rig.runtime.images.add("unused:1")
    rig.add_pod("ended", restartPolicy="Never")
    rig.add_pod("web")
    rig.add_pod("hoarder", volumes=[{"name": "data", "emptyDir": {}}], restartPolicy="Never")
    await rig.settled()
    rig.runtime.finish(rig.main("ended")["containerID"].removeprefix("corral://"), 0)
    await rig.settled()
    data = rig.agent.layout.volume("u-hoarder", "data")
    (data / "data").write_bytes(b"x" * 8 * MIB)
    pressure.reading = replace(WELL, disk_available=4 * MIB)
    await rig.advance(11)
    assert await rig.runtime.images.status("unused:1") is None
    assert isinstance(await rig.runtime.images.status("host"), Image)
    assert not rig.agent.layout.pod("u-ended").exists()
    assert rig.status("ended")["phase"] == "Succeeded"
    assert rig.main("ended")["state"]["terminated"]["exitCode"] == 0
    async with asyncio.timeout(30):  # du(1) is a process of its own
        while rig.status("hoarder").get("reason") != "Evicted" or data.exists():
            await rig.settled()
    assert rig.status("hoarder")["phase"] == "Failed"
    assert "low on resource: ephemeral-storage" in rig.status("hoarder")["message"]
    assert rig.status("web")["phase"] == "Running"
    assert "u-web" in {box.pod_uid for box in await rig.runtime.sandboxes()}


async def test_a_disk_that_somebody_else_has_filled_ends_no_pod(short_rig: tuple[Any, Set]) -> None:
    rig, pressure = short_rig
    rig.add_pod()
    await rig.settled()
    pressure.reading = replace(WELL, disk_available=0)
    for _ in range(4):
        await rig.advance(10)
    assert rig.status()["phase"] == "Running"
    pressure.reading = WELL
    await rig.advance(30)
    node = rig.api.objects["/api/v1/nodes/m1"]
    assert {one["status"] for one in node["status"]["conditions"] if one["type"] == "DiskPressure"} == {"False"}

"""Whole GPUs and parts of them: which device a pod gets, who fits, and that it stays so."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.accelerators import DEVICES_ANNOTATION, GPU_MILLI, devices_text
from corral.kinds.types import Key, Obj
from corral.scheduler.plan import Bind, Pending, Preempt, Refuse, plan
from corral.scheduler.profile import PACKING
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.why import explain
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cell(*machines: Obj) -> Snapshot:
    snapshot = Snapshot()
    for machine in machines:
        snapshot.put_node(machine)
    return snapshot


def gpus(name: str, count: int, resource: str = "nvidia.com/gpu", **more: str) -> Obj:
    return node(name, cpu="64", memory="256Gi", extra={resource: str(count), **more})


def asking(name: str, *, whole: int = 0, milli: int = 0, resource: str = "nvidia.com/gpu", **more: Any) -> Obj:
    requests = {resource: str(whole)} if whole else {GPU_MILLI: str(milli)} if milli else {}
    return pod(name, requests=requests, **more)


def decide(snapshot: Snapshot, *pods: Obj) -> list[Any]:
    pending = [
        Pending(Key("default", made["metadata"]["name"]), snapshot.classify(made), made["spec"].get("priority", 0), at)
        for at, made in enumerate(pods)
    ]
    return list(plan(snapshot, pending, NOW, random.Random(1), profile=PACKING))


def put(snapshot: Snapshot, made: Obj, machine: str) -> tuple[int, ...]:
    key = Key("default", made["metadata"]["name"])
    snapshot.place(key, snapshot.classify(made, placed=True), machine)
    return snapshot.class_of(key).devices


def bound(made: Obj, machine: str, devices: tuple[int, ...]) -> Obj:
    made["metadata"]["annotations"] = {DEVICES_ANNOTATION: devices_text(devices)}
    made["spec"]["nodeName"] = machine
    return made


def test_parts_share_the_device_where_the_least_is_left() -> None:
    snapshot = cell(gpus("a", 3))
    assert put(snapshot, asking("p1", milli=600), "a") == (0,)
    assert put(snapshot, asking("p2", milli=300), "a") == (0,)
    assert put(snapshot, asking("p3", milli=300), "a") == (1,)
    assert put(snapshot, asking("p4", milli=100), "a") == (0,)
    assert put(snapshot, asking("p5", whole=1), "a") == (2,)
    assert snapshot.usage()["a"].devices == {0: 1000, 1: 300, 2: 1000}


def test_whole_devices_are_untouched_ones() -> None:
    snapshot = cell(gpus("a", 2), gpus("b", 4))
    put(snapshot, asking("p1", milli=100), "a")
    put(snapshot, asking("p2", milli=100), "b")
    (decision,) = decide(snapshot, asking("q", whole=2))
    assert decision == Bind(Key("default", "q"), "b", (1, 2))


def test_a_part_fits_on_a_device_or_not_at_all() -> None:
    snapshot = cell(gpus("a", 2))
    put(snapshot, asking("p1", milli=600), "a")
    put(snapshot, asking("p2", milli=600), "a")
    (decision,) = decide(snapshot, asking("q", milli=500))
    assert decision.message == (
        "0/1 nodes are available: 1 Insufficient corral.dev/gpu-milli (enough in sum, but not on one device). "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    (decision,) = decide(snapshot, asking("q", milli=400))
    assert isinstance(decision, Bind)


@pytest.mark.parametrize(
    ("taken", "asked", "reason"),
    [
        ({"whole": 2}, {"milli": 10}, "Insufficient corral.dev/gpu-milli"),
        ({"whole": 2}, {"whole": 1}, "Insufficient nvidia.com/gpu"),
        ({"milli": 10}, {"whole": 3}, "Insufficient nvidia.com/gpu"),
        (
            {"milli": 1000},
            {"whole": 2},
            "Insufficient nvidia.com/gpu",
        ),
        (
            {"milli": 10},
            {"whole": 2},
            "Insufficient nvidia.com/gpu",
        ),
        ({}, {"whole": 1, "resource": "amd.com/gpu"}, "Insufficient amd.com/gpu"),
    ],
)
def test_refusals_name_the_resource_once(taken: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    snapshot = cell(gpus("a", 2))
    if taken:
        put(snapshot, asking("p", **taken), "a")
    (decision,) = decide(snapshot, asking("q", **asked))
    assert isinstance(decision, Refuse)
    assert decision.reasons == {reason: 1}


def test_why_says_what_is_missing_on_the_closest_machine() -> None:
    snapshot = cell(gpus("a", 2), gpus("b", 1), node("c"))
    for name, machine, milli in (("p1", "a", 700), ("p2", "a", 900), ("p3", "b", 800)):
        put(snapshot, asking(name, milli=milli), machine)
    story = explain(snapshot, asking("q", milli=400), scheduler="s")
    found = {machine["name"]: (machine["reasons"], machine["missing"]) for machine in story["machines"]}
    lack = "Insufficient corral.dev/gpu-milli"
    assert found["a"] == ([f"{lack} (enough in sum, but not on one device)"], {GPU_MILLI: "100"})
    assert found["b"] == ([lack], {GPU_MILLI: "200"})
    assert found["c"] == ([lack], {GPU_MILLI: "400"})
    assert story["closest"]["name"] == "a"
    assert story["would_help"] == [f"free 100 of {GPU_MILLI} on a, or ask for that much less"]
    assert story["message"].startswith("0/3 nodes are available: 1 Insufficient corral.dev/gpu-milli (enough in sum")


def test_another_vendors_machine_is_as_good_for_a_part() -> None:
    snapshot = cell(gpus("a", 1, "amd.com/gpu"))
    (part, whole) = decide(snapshot, asking("q1", milli=300), asking("q2", whole=1, resource="nvidia.com/gpu"))
    assert part == Bind(Key("default", "q1"), "a", (0,))
    assert whole.reasons == {"Insufficient nvidia.com/gpu": 1}


def test_a_second_vendor_on_a_machine_is_counted() -> None:
    snapshot = cell(gpus("a", 1, **{"amd.com/gpu": "1"}))
    assert put(snapshot, asking("p1", whole=1), "a") == (0,)
    first, second = decide(
        snapshot, asking("q1", whole=1, resource="amd.com/gpu"), asking("q2", whole=1, resource="amd.com/gpu")
    )
    assert first == Bind(Key("default", "q1"), "a", ())
    assert second.reasons == {"Insufficient amd.com/gpu": 1}


def test_what_is_written_on_a_bound_pod_holds_and_labels_do_not_move_it() -> None:
    snapshot = cell(gpus("a", 4))
    made = bound(asking("p1", milli=500), "a", (3,))
    assert put(snapshot, made, "a") == (3,)
    assert put(snapshot, asking("p2", milli=200), "a") == (3,)
    changed = asking("p2", milli=200, labels={"new": "label"})
    before = snapshot.used.end
    assert put(snapshot, changed, "a") == (3,)
    assert snapshot.used.end > before
    put(snapshot, changed, "a")
    assert snapshot.usage()["a"].devices == {3: 700}


def test_pods_that_are_known_before_their_machine_get_devices_with_it() -> None:
    snapshot = Snapshot()
    assert put(snapshot, asking("p1", milli=700), "a") == ()
    assert put(snapshot, bound(asking("p2", whole=1), "a", (0,)), "a") == (0,)
    snapshot.put_node(gpus("a", 2))
    assert snapshot.class_of(Key("default", "p1")).devices == (1,)
    assert snapshot.usage()["a"].devices == {0: 1000, 1: 700}


def test_more_than_all_can_be_taken_and_given_back() -> None:
    snapshot = cell(gpus("a", 1))
    put(snapshot, bound(asking("p1", whole=1), "a", (0,)), "a")
    put(snapshot, bound(asking("p2", whole=2), "a", (0, 5)), "a")
    assert snapshot.usage()["a"].devices == {0: 2000, 5: 1000}
    assert snapshot.devices.free[snapshot.row("a")].tolist() == [0] * 6
    snapshot.remove(Key("default", "p2"))
    snapshot.remove(Key("default", "p1"))
    assert snapshot.devices.free[snapshot.row("a")].tolist() == [1000] + [0] * 5


def test_victims_are_those_on_the_device() -> None:
    snapshot = cell(gpus("a", 2))
    put(snapshot, asking("p1", milli=300, priority=5), "a")
    put(snapshot, bound(asking("p2", milli=600, priority=1), "a", (1,)), "a")
    before = snapshot.usage()
    (decision,) = decide(snapshot, asking("q", whole=1, priority=3))
    assert isinstance(decision, Preempt)
    assert decision.victims == (Key("default", "p2"),)
    assert snapshot.usage() == before


def test_a_nominated_pod_waits_for_the_devices_that_are_ending() -> None:
    snapshot = cell(gpus("a", 3))
    ending = bound(asking("p1", milli=900), "a", (2,))
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    for made in (asking("p2", milli=300), ending, bound(asking("p3", milli=300), "a", (1,))):
        put(snapshot, made, "a")
    before = snapshot.usage()["a"].devices
    key = Key("default", "q")
    snapshot.nominate(key, snapshot.classify(asking("q", whole=1, priority=3)), "a")
    assert snapshot.class_of(key).devices == (2,)
    assert snapshot.usage()["a"].devices == {**before, 2: 1900}
    snapshot.remove(key)
    assert snapshot.usage()["a"].devices == before


asks: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.one_of(st.builds(dict, whole=st.integers(1, 3)), st.builds(dict, milli=st.integers(1, 1000))), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(asks, st.lists(st.integers(0, 24), max_size=10), st.integers(0, 99))
def test_no_device_is_overcommitted_and_a_restart_finds_the_same(
    wanted: list[dict[str, Any]], gone: list[int], seed: int
) -> None:
    """Whatever comes and goes: devices hold at most 1000, sums agree, and reading it all again gives the same."""
    snapshot, objects = cell(gpus("a", 4), gpus("b", 2), node("c")), {}
    for at, ask in enumerate(wanted):
        made = asking(f"p{at}", **ask)
        key = Key("default", f"p{at}")
        (decision,) = again = decide(snapshot, made)
        assert decide(snapshot, made) == again, seed
        if isinstance(decision, Bind):
            snapshot.place(key, snapshot.classify(made), decision.node)
            assert snapshot.class_of(key).devices == decision.devices
            objects[key] = bound(made, decision.node, decision.devices)
        if at in gone and objects:
            snapshot.remove(objects.popitem()[0])
    taken: Counter[tuple[str, int]] = Counter()
    for made in objects.values():
        requests = made["spec"]["containers"][0]["resources"]["requests"]
        for index in made["metadata"]["annotations"][DEVICES_ANNOTATION].split(","):
            taken[made["spec"]["nodeName"], int(index)] += int(requests.get(GPU_MILLI, 1000))
    assert max(taken.values(), default=0) <= 1000
    assert taken == {(name, at): milli for name in "ab" for at, milli in snapshot.usage()[name].devices.items()}
    restarted = cell(gpus("b", 2), node("c"), gpus("a", 4))
    for key, made in reversed(objects.items()):
        restarted.place(key, restarted.classify(made, placed=True), made["spec"]["nodeName"])
    assert {name: usage.devices for name, usage in restarted.usage().items()} == {
        name: usage.devices for name, usage in snapshot.usage().items()
    }

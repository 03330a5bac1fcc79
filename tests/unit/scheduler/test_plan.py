"""The plan: its choices, its order, its words; random cells are in `properties`."""

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Decision, Pending, Refuse, assign, plan
from corral.scheduler.profile import PACKING, SPREADING, Profile
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot_of(*nodes: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    return snapshot


def waiting(snapshot: Snapshot, *pods: Obj) -> list[Pending]:
    return [
        Pending(key_of(one), snapshot.classify(one), one["spec"].get("priority", 0), order)
        for order, one in enumerate(pods)
    ]


def decide(snapshot: Snapshot, *pods: Obj, seed: int = 1, profile: Profile = SPREADING) -> list[Decision]:
    return list(plan(snapshot, waiting(snapshot, *pods), NOW, random.Random(seed), profile=profile))


def nodes_of(decisions: list[Decision]) -> list[str]:
    return [decision.node if isinstance(decision, Bind) else "" for decision in decisions]


def test_spreading_takes_the_emptiest_and_packing_the_fullest_machine() -> None:
    snapshot = snapshot_of(node("a"), node("b"))
    snapshot.place(Key("default", "x"), snapshot.classify(pod("x", cpu="1", memory="2Gi")), "a")
    wanted = pod("p", cpu="1", memory="2Gi")
    assert nodes_of(decide(snapshot, wanted)) == ["b"]
    assert nodes_of(decide(snapshot, wanted, profile=PACKING)) == ["a"]


def test_pods_that_ask_for_nothing_spread_too() -> None:
    snapshot = snapshot_of(*(node(f"n{number}") for number in range(4)))
    decisions = decide(snapshot, *(pod(f"p{number}") for number in range(8)))
    assert set(Counter(nodes_of(decisions)).values()) == {2}


def test_ties_are_broken_by_the_seed() -> None:
    snapshot = snapshot_of(*(node(f"n{number}") for number in range(20)))
    chosen = {nodes_of(decide(snapshot, pod("p"), seed=seed))[0] for seed in range(30)}
    assert len(chosen) > 5


def test_the_highest_priority_comes_first_and_then_who_came_first() -> None:
    snapshot = snapshot_of(node("a", cpu="2"))
    pods = [pod("late", cpu="1"), pod("low", cpu="1"), pod("high", cpu="1", priority=10)]
    decisions = decide(snapshot, *pods)
    assert [(decision.pod.name, isinstance(decision, Bind)) for decision in decisions] == [
        ("high", True),
        ("late", True),
        ("low", False),
    ]


def test_preferred_affinity_and_taints_sway_the_choice() -> None:
    snapshot = snapshot_of(
        node("a", labels={"disk": "ssd"}, taints=["old=:PreferNoSchedule"]),
        node("b"),
        node("c", labels={"disk": "ssd"}),
    )
    term = {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert nodes_of(decide(snapshot, pod("p", affinity=affinity))) == ["c"]
    chosen = {nodes_of(decide(snapshot, pod("p"), seed=seed))[0] for seed in range(20)}
    assert chosen == {"b", "c"}


def test_a_refusal_counts_machines_by_reason_in_kubernetes_words() -> None:
    snapshot = snapshot_of(
        node("a", cpu="1"), node("b", taints=["gpu=yes:NoSchedule"]), node("c", taints=["gpu=yes:NoSchedule"])
    )
    (refusal,) = decide(snapshot, pod("p", cpu="2"))
    assert isinstance(refusal, Refuse)
    assert refusal.message == (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    (refusal,) = decide(Snapshot(), pod("p"))
    assert isinstance(refusal, Refuse)
    assert refusal.message == "no nodes available to schedule pods"


def test_a_plan_leaves_the_snapshot_as_it_was() -> None:
    snapshot = snapshot_of(node("a"), node("b"))
    before = snapshot.usage()
    decisions = decide(snapshot, *(pod(f"p{number}", cpu="1") for number in range(10)))
    assert any(isinstance(decision, Bind) for decision in decisions)
    assert snapshot.usage() == before


def test_what_was_assigned_stays_placed() -> None:
    snapshot = snapshot_of(node("a", cpu="1"))
    cache = CandidateCache(snapshot, SPREADING)
    first = assign(cache, waiting(snapshot, pod("p", cpu="1")), NOW, random.Random(1))
    second = assign(cache, waiting(snapshot, pod("q", cpu="1")), NOW, random.Random(1))
    assert [type(first[0]), type(second[0])] == [Bind, Refuse]
    assert not cache.fits_somewhere(snapshot.classify(pod("q", cpu="1")))
    snapshot.remove(Key("default", "p"))
    assert cache.fits_somewhere(snapshot.classify(pod("q", cpu="1")))


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 200])
def test_any_number_of_machines(count: int) -> None:
    snapshot = snapshot_of(*(node(f"n{number}", cpu="1") for number in range(count)))
    decisions = decide(snapshot, *(pod(f"p{number}", cpu="1") for number in range(count + 1)))
    assert len(set(nodes_of(decisions))) == count + 1

"""The hybrid profile: requests go where they fit the shape of what is left."""

import random
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.podspec import pod_requests
from corral.kinds.types import Obj, key_of
from corral.scheduler.plan import Bind, Decision, Pending, plan
from corral.scheduler.profile import HYBRID, PACKING
from corral.scheduler.scores.stranded import Fullest, LeastStranded
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot_of(*nodes: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    return snapshot


def scores(snapshot: Snapshot, asked: Obj) -> dict[str, float]:
    every, wanted = slice(None), snapshot.classify(asked)
    share = (snapshot.load + wanted.load) / np.maximum(snapshot.allocatable[:, :2], 1)
    found = LeastStranded().score(snapshot, wanted, every, np.minimum(share, 1.0))
    return {snapshot.machine(row).name: float(found[row]) for row in snapshot.rows()}


def decide(nodes: list[Obj], pods: list[Obj], seed: int = 1) -> list[Decision]:
    snapshot = snapshot_of(*nodes)
    pending = [Pending(key_of(one), snapshot.classify(one), 0, order) for order, one in enumerate(pods)]
    return list(plan(snapshot, pending, NOW, random.Random(seed), profile=HYBRID))


def test_the_proportion_that_is_left_decides() -> None:
    snapshot = snapshot_of(node("even", cpu="4", memory="8Gi"), node("memory", cpu="1", memory="8Gi"))
    by_machine = scores(snapshot, pod("p", cpu="1", memory="2Gi"))
    assert by_machine["even"] == pytest.approx(100)
    assert by_machine["even"] > by_machine["memory"] > 0
    by_machine = scores(snapshot, pod("p", cpu="500m", memory="4Gi"))
    assert by_machine["memory"] == pytest.approx(100)


def test_units_and_sizes_do_not_matter() -> None:
    snapshot = snapshot_of(node("a", cpu="2", memory="8Gi"), node("b", cpu="20", memory="80Gi"))
    by_machine = scores(snapshot, pod("p", cpu="1", memory="1Gi"))
    assert by_machine["a"] == pytest.approx(by_machine["b"])


def test_to_finish_a_machine_counts_more_than_to_begin_one() -> None:
    snapshot = snapshot_of(node("a"))
    wanted = snapshot.classify(pod("p", cpu="1"))
    empty, begun, done = Fullest().score(snapshot, wanted, slice(None), np.array([[0.0, 0.0], [0.5, 0.5], [1.0, 1.0]]))
    assert (empty, done) == (0, pytest.approx(100))
    assert begun - empty < (done - empty) / 2


def test_what_is_placed_counts() -> None:
    snapshot = snapshot_of(node("a", cpu="4", memory="8Gi"), node("b", cpu="4", memory="8Gi"))
    placed = pod("placed", cpu="3", memory="1Gi")
    snapshot.place(key_of(placed), snapshot.classify(placed), "a")
    assert scores(snapshot, pod("p", cpu="500m", memory="4Gi"))["a"] > 95
    assert scores(snapshot, pod("p", cpu="500m", memory="4Gi"))["b"] < 95


def test_complements_meet_where_best_fit_strands() -> None:
    """Two machines; after one pod that is all cpu on one of them, one of mostly memory belongs beside it, even though
    the other machine is fuller."""
    nodes = [node("a", cpu="10", memory="10Gi"), node("b", cpu="10", memory="10Gi")]

    def choice(profile_name: str) -> str:
        snapshot = snapshot_of(*nodes)
        for name, cpu, memory, machine in (("x", "8", "1Gi", "a"), ("y", "5", "5Gi", "b")):
            placed = pod(name, cpu=cpu, memory=memory)
            snapshot.place(key_of(placed), snapshot.classify(placed), machine)
        asked = pod("p", cpu="1", memory="4Gi")
        profile = HYBRID if profile_name == "hybrid" else PACKING
        [decision] = plan(
            snapshot, [Pending(key_of(asked), snapshot.classify(asked))], NOW, random.Random(1), profile=profile
        )
        assert isinstance(decision, Bind)
        return decision.node

    assert choice("packing") == "b"
    assert choice("hybrid") == "a"


amount = st.integers(0, 5000)
asked = st.lists(st.tuples(amount, amount), min_size=1, max_size=25)


def pods_of(sizes: list[tuple[int, int]]) -> list[Obj]:
    return [
        pod(f"p{number}", requests={"cpu": f"{cpu}m", "memory": f"{memory}Mi"})
        for number, (cpu, memory) in enumerate(sizes)
    ]


@settings(max_examples=60, deadline=None)
@given(asked, st.integers(1, 6), st.integers(0, 3))
def test_never_over_committed_and_repeatable(sizes: list[tuple[int, int]], machines: int, seed: int) -> None:
    nodes = [node(f"n{number}", cpu="4", memory=f"{2 + number}Gi") for number in range(machines)]
    pods = pods_of(sizes)
    decisions = decide(nodes, pods, seed)
    assert decisions == decide(nodes, pods, seed)
    by_name = {key_of(one): pod_requests(one) for one in pods}
    for number in range(machines):
        here = [by_name[one.pod] for one in decisions if isinstance(one, Bind) and one.node == f"n{number}"]
        assert sum(one.get("cpu", 0) for one in here) <= 4000
        assert sum(one.get("memory", 0) for one in here) <= (2 + number) * 2**30


@settings(max_examples=60, deadline=None)
@given(amount, amount, amount, amount)
def test_scores_stay_within_bounds(cpu: int, memory: int, asked_cpu: int, asked_memory: int) -> None:
    snapshot = snapshot_of(node("n", cpu=f"{cpu}m", memory=f"{memory}Mi"))
    [one] = pods_of([(asked_cpu, asked_memory)])
    assert 0 <= scores(snapshot, one)["n"] <= 100.001

"""A trial decides as the live loop would, on a copy, in steps."""

import random
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.preemption import Budget
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.trial import Trial
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def snapshot_of(*objects: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in objects:
        if one["kind"] == "Node":
            snapshot.put_node(one)
        else:
            key = Key(one["metadata"]["namespace"], one["metadata"]["name"])
            snapshot.place(key, snapshot.classify(one, placed=True), one["spec"]["nodeName"])
    return snapshot


def run(snapshot: Snapshot, *pods: Obj, limit: int = 3, budgets: tuple[Budget, ...] = ()) -> Trial:
    keyed = [(Key("default", f"0/{one['metadata']['name']}"), one) for one in pods]
    trial = Trial(CandidateCache(snapshot.copy(), SPREADING), keyed, NOW, random.Random(1), budgets)
    for _ in trial.steps(limit):
        assert len(trial.places) + len(trial.refused) <= len(pods)
    assert {*trial.places, *trial.refused} == {key for key, _ in keyed}
    return trial


sizes = st.lists(st.sampled_from([100, 400, 700]), max_size=25)


@settings(max_examples=50, deadline=None)
@given(sizes, st.integers(1, 30))
def test_steps_of_any_length_neither_overcommit_nor_touch_the_original(asked: list[int], limit: int) -> None:
    snapshot = snapshot_of(*(node(f"n{number}", cpu="1") for number in range(4)))
    before = snapshot.usage()
    trial = run(snapshot, *(pod(f"p{number}", cpu=f"{cpu}m") for number, cpu in enumerate(asked)), limit=limit)
    taken: dict[str, int] = {}
    for key, place in trial.places.items():
        taken[place.node] = taken.get(place.node, 0) + asked[int(key.name.removeprefix("0/p"))]
    assert all(amount <= 1000 for amount in taken.values())
    assert snapshot.usage() == before


def test_the_important_come_first_and_victims_go_once() -> None:
    there = [pod(f"low-{number}", cpu="1", node_name="a") for number in range(3)]
    snapshot = snapshot_of(node("a", cpu="3"), *there)
    wanted = [pod("late", cpu="1"), *(pod(f"high-{number}", cpu="1", priority=9) for number in range(4))]
    trial = run(snapshot, *wanted)
    victims = [str(victim) for place in trial.places.values() for victim in place.victims]
    assert sorted(victims) == ["default/low-0", "default/low-1", "default/low-2"]
    assert {key.name for key in trial.refused} == {"0/late", "0/high-3"}


def test_budgets_are_spent_from_step_to_step() -> None:
    there = [pod(f"low-{name}", cpu="1", node_name=name, labels={"app": "a"}) for name in ("a", "b")]
    spare = pod("spare", cpu="1", node_name="c", priority=1)
    snapshot = snapshot_of(*(node(name, cpu="1") for name in ("a", "b", "c")), *there, spare)
    budget = Budget("default", LabelSelector.from_object({"matchLabels": {"app": "a"}}), 1)
    wanted = [pod(f"high-{number}", cpu="1", priority=9) for number in range(2)]
    trial = run(snapshot, *wanted, limit=1, budgets=(budget,))
    victims = {str(victim) for place in trial.places.values() for victim in place.victims}
    assert "default/spare" in victims
    assert len(victims) == 2


def test_a_refused_pod_is_explained_although_one_of_its_name_is_there() -> None:
    there = pod("p", cpu="1", node_name="a")
    trial = run(snapshot_of(node("a", cpu="1"), there), pod("p", cpu="1"))
    story = trial.explain(Key("default", "0/p"))
    assert story["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert story["closest"]["name"] == "a"

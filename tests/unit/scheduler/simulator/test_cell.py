"""The simulated cell: safe, repeatable, true to the live scheduler's code, and complete in what it reports."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.errors import CorralError
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.plan import Bind, Pending, plan
from corral.scheduler.profile import PACKING, SPREADING, Profile
from corral.scheduler.simulator.cell import Outcome, SimulatedCell
from corral.scheduler.simulator.failure import fail
from corral.scheduler.simulator.fit import fit
from corral.scheduler.simulator.scenario import Scenario
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node
from corral.testing.scheduling import pod as orphan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROD, BATCH = 200_000_000, 100_000_000


def pod(name: str, **fields: Any) -> Obj:
    """A pod that is made anew when it is gone."""
    made = orphan(name, **fields)
    made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": name, "controller": True}]
    return made


def cell_of(machines: list[Obj], pods: list[Obj], *context: Obj, profile: Profile = SPREADING) -> SimulatedCell:
    return SimulatedCell(Scenario(machines, pods, context), profile)


def settled(cell: SimulatedCell, seed: int = 1) -> Outcome:
    return cell.settle(NOW, random.Random(seed))


def over_committed(cell: SimulatedCell) -> bool:
    snapshot = cell.snapshot
    return bool((snapshot.requested[snapshot.alive] > snapshot.allocatable[snapshot.alive]).any())


machines = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from("ab")), min_size=1, max_size=6)
pods = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0, BATCH, PROD]), st.sampled_from(["", "a", "c"])),
    max_size=20,
)


def nodes_of(drawn: list[tuple[int, int, str]]) -> list[Obj]:
    return [
        node(f"n{number}", cpu=str(cpu), memory=f"{memory}Gi", labels={"zone": zone})
        for number, (cpu, memory, zone) in enumerate(drawn)
    ]


def pods_of(drawn: list[tuple[int, int, int, str]]) -> list[Obj]:
    return [
        pod(
            f"p{number:02}", cpu=str(cpu), memory=f"{gib}Gi", priority=band, nodeSelector={"zone": zone} if zone else {}
        )
        for number, (cpu, gib, band, zone) in enumerate(drawn)
    ]


def renamed(one: Obj, name: str) -> Obj:
    return {**one, "metadata": {**one["metadata"], "name": name}}


@settings(max_examples=150, deadline=None)
@given(machines, pods, st.integers(0, 3))
def test_what_fits_is_what_the_plan_of_the_live_scheduler_binds(
    drawn: list[tuple[int, int, str]], wanted: list[tuple[int, int, int, str]], seed: int
) -> None:
    snapshot = Snapshot()
    for one in nodes_of(drawn):
        snapshot.put_node(one)
    waiting = [
        Pending(key_of(one), snapshot.classify(one), one["spec"].get("priority", 0), order)
        for order, one in enumerate(pods_of(wanted))
    ]
    decisions = plan(snapshot, waiting, NOW, random.Random(seed))
    outcome = settled(cell_of(nodes_of(drawn), pods_of(wanted)), seed)
    assert outcome.placed == {one.pod: one.node for one in decisions if isinstance(one, Bind)}
    # Only refusals are left: nobody is less important than anybody here.
    assert outcome.refused == {one.pod: getattr(one, "summary", "") for one in decisions if not isinstance(one, Bind)}


@settings(max_examples=150, deadline=None)
@given(machines, pods, pods, st.data())
def test_however_pods_are_pushed_and_machines_die_nothing_is_lost_count_of(
    drawn: list[tuple[int, int, str]],
    first: list[tuple[int, int, int, str]],
    later: list[tuple[int, int, int, str]],
    data: st.DataObject,
) -> None:
    cell = cell_of(nodes_of(drawn), pods_of(first))
    settled(cell)
    running = [
        {**one, "spec": {**one["spec"], "nodeName": cell.snapshot.node_of(key_of(one))}}
        for one in pods_of(first)
        if cell.snapshot.node_of(key_of(one))
    ]
    newcomers = [renamed(one, f"new-{number}") for number, one in enumerate(pods_of(later))]
    cell = cell_of(nodes_of(drawn), [*running, *newcomers], profile=PACKING)
    outcome = settled(cell)
    assert not over_committed(cell)
    on_machines = {key for key, _ in cell.placed()}
    everyone = {key_of(one) for one in (*running, *newcomers)}
    assert on_machines | outcome.refused.keys() == everyone
    assert not on_machines & outcome.refused.keys()
    assert {pod.key for pod in cell.waiting} == set(outcome.refused)
    dying = data.draw(st.lists(st.sampled_from(sorted(cell.machine_names())), unique=True))
    answer = fail(cell, dying, NOW, random.Random(1))
    assert not over_committed(cell)
    assert {key for key, _ in cell.placed()} | {pod.key for pod in cell.waiting} == everyone
    assert not {cell.snapshot.node_of(key) for key, _ in cell.placed()} & set(dying)
    for loss in answer.bands:
        assert loss.displaced + loss.pushed_out == loss.placed + loss.lost


@settings(max_examples=50, deadline=None)
@given(machines, pods)
def test_production_is_never_pushed_out_by_production(
    drawn: list[tuple[int, int, str]], wanted: list[tuple[int, int, int, str]]
) -> None:
    running = [{**one, "spec": {**one["spec"], "nodeName": "n0", "priority": PROD}} for one in pods_of(wanted)]
    more = [renamed(one, f"q{number}") for number, one in enumerate(pods_of(wanted))]
    outcome = settled(cell_of(nodes_of(drawn), [*running, *more]))
    assert outcome.evicted == {}


def test_the_more_important_pushes_out_and_the_victim_looks_for_another_place() -> None:
    low = pod("low", cpu="2", node_name="big", priority=BATCH)
    high = pod("high", cpu="4", priority=PROD)
    outcome = settled(cell_of([node("big", cpu="4"), node("small", cpu="2")], [low, high]))
    assert outcome.placed == {Key("default", "high"): "big", Key("default", "low"): "small"}
    assert outcome.evicted == {Key("default", "low"): "big"}
    assert outcome.refused == {}


def test_budgets_are_spent() -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}},
        "status": {"disruptionsAllowed": 1},
    }
    low = [pod(f"low-{n}", cpu="2", node_name=f"n{n}", labels={"app": "x"}) for n in range(2)]
    spare = pod("spare", cpu="2", node_name="n2")
    high = [pod(f"high-{n}", cpu="2", priority=PROD) for n in range(2)]
    outcome = settled(cell_of([node(f"n{n}", cpu="2") for n in range(3)], [*low, spare, *high], budget))
    assert sorted(key.name for key in outcome.evicted) in (["low-0", "spare"], ["low-1", "spare"])


def test_who_has_no_controller_is_gone() -> None:
    machines, low = [node("a", cpu="2"), node("b", cpu="2")], orphan("low", cpu="2", node_name="a")
    answer = fail(cell_of(machines, [low]), ["a"], NOW, random.Random(1))
    assert [refusal.reason for refusal in answer.refusals] == ["the pod has no controller that would make it anew"]
    assert [(loss.displaced, loss.placed, loss.lost) for loss in answer.bands] == [(1, 0, 1)]
    outcome = settled(cell_of(machines[:1], [low, pod("high", cpu="2", priority=PROD)]))
    assert (len(outcome.placed), len(outcome.evicted), len(outcome.refused)) == (1, 1, 1)


def test_daemons_end_with_their_machine() -> None:
    daemon = pod("daemon", cpu="1", node_name="a")
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "controller": True}]
    cell = cell_of([node("a"), node("b")], [daemon, pod("p", cpu="1", node_name="a", priority=BATCH)])
    answer = fail(cell, ["a"], NOW, random.Random(1))
    assert {loss.band: (loss.ended, loss.displaced, loss.placed) for loss in answer.bands} == {
        "batch": (0, 1, 1),
        "free": (1, 0, 0),
    }
    assert answer.survives


def test_gangs_go_together_or_not_at_all() -> None:
    group = {
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"minMember": 3},
    }
    members = [pod(f"m{n}", cpu="4", labels={"scheduling.x-k8s.io/pod-group": "g"}) for n in range(3)]
    alone = pod("alone", cpu="4")
    three = cell_of([node(f"n{n}", cpu="4") for n in range(3)], [*members, alone], group)
    assert {key.name for key in settled(three).placed} == {"m0", "m1", "m2"}
    two = cell_of([node(f"n{n}", cpu="4") for n in range(2)], [*members, alone], group)
    outcome = settled(two)
    assert {key.name for key in outcome.placed} == {"alone"}
    assert "only 2 of 3 members fit" in outcome.refused[Key("default", "m0")]


def test_what_is_left_out_says_why() -> None:
    gated = pod("gated", schedulingGates=[{"name": "quota"}])
    foreign = pod("foreign", schedulerName="volcano")
    senseless = pod("senseless", cpu="lots")
    ended = {**pod("ended", cpu="64"), "status": {"phase": "Succeeded"}}
    answer = fit(cell_of([node("a")], [gated, foreign, senseless, ended, pod("p", cpu="64")]), NOW, random.Random(1))
    assert Counter(refusal.reason.split(":")[0] for refusal in answer.refusals) == {
        "the pod waits for its scheduling gates to be removed": 1,
        "the pod asks for the scheduler 'volcano'": 1,
        "cannot read what the pod asks for": 1,
        "0/1 nodes are available": 1,
    }
    assert answer.asked == 4


def test_names_must_differ_and_amounts_make_sense() -> None:
    with pytest.raises(CorralError, match="two machines named 'a'"):
        cell_of([node("a"), node("a")], [])
    with pytest.raises(CorralError, match="two pods named 'default/p'"):
        cell_of([node("a")], [pod("p"), pod("p")])
    with pytest.raises(CorralError, match="cannot use the machine 'a'"):
        cell_of([node("a", cpu="many")], [])


def test_to_repack_is_to_forget_where_pods_are() -> None:
    placed = [pod(f"p{n}", cpu="1", node_name=f"n{n}") for n in range(4)]
    cell = SimulatedCell(Scenario([node(f"n{n}") for n in range(4)], placed), PACKING, keep=False)
    answer = fit(cell, NOW, random.Random(1))
    assert (answer.before.in_use, answer.after.in_use) == (0, 1)


def test_progress_ends_at_its_total() -> None:
    told: list[tuple[int, int]] = []
    cell = cell_of([node("a", cpu="2")], [pod(f"p{n}", cpu="1") for n in range(5)])
    cell.settle(NOW, random.Random(1), lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)


def test_a_gang_of_unlike_importance_comes_to_rest() -> None:
    group = {
        "apiVersion": "scheduling.x-k8s.io/v1alpha1",
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"minMember": 1},
    }
    labels = {"scheduling.x-k8s.io/pod-group": "g"}
    low, high = pod("low", cpu="2", labels=labels), pod("high", cpu="1", labels=labels, priority=PROD)
    assert settled(cell_of([node("a", cpu="2")], [low, high], group)).placed == {Key("default", "high"): "a"}

"""Who must go for a more important pod: single cases, then random machines against every possible set of victims."""

import itertools
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Decision, Pending, Preempt, Refuse, assign, plan
from corral.scheduler.preemption import PRODUCTION, Budget, find_victims
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def cell(*objects: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in objects:
        if one["kind"] == "Node":
            snapshot.put_node(one)
        else:
            snapshot.place(key_of(one), snapshot.classify(one, placed=True), one["spec"]["nodeName"])
    return snapshot


def victims(snapshot: Snapshot, wanted: Obj, *budgets: Budget) -> tuple[str, list[str]] | None:
    """The machine and the names of those who must go; checks that the search leaves no trace."""
    before, nominations = snapshot.usage(), dict(snapshot.nominations)
    found = find_victims(snapshot, snapshot.classify(wanted), budgets, SPREADING)
    assert (snapshot.usage(), snapshot.nominations) == (before, nominations)
    return None if found is None else (found.node, sorted(key.name for key in found.pods))


def low(name: str, at: str, cpu: str = "1", priority: int = 1, **more: object) -> Obj:
    return pod(name, cpu=cpu, node_name=at, priority=priority, **more)  # type: ignore[arg-type]


def test_only_as_many_go_as_must_and_the_least_important() -> None:
    snapshot = cell(node("a", cpu="3"), low("x", "a", priority=3), low("y", "a", priority=1), low("z", "a", priority=2))
    assert victims(snapshot, pod("p", cpu="1", priority=9)) == ("a", ["y"])
    assert victims(snapshot, pod("p", cpu="2", priority=9)) == ("a", ["y", "z"])
    assert victims(snapshot, pod("p", cpu="3", priority=3)) is None
    assert victims(snapshot, pod("p", cpu="2", priority=3)) == ("a", ["y", "z"])
    assert victims(snapshot, pod("p", cpu="4", priority=9)) is None


def test_among_equals_the_last_comer_goes() -> None:
    snapshot = cell(node("a", cpu="2"), low("old", "a"), low("new", "a"))
    assert victims(snapshot, pod("p", cpu="1", priority=9)) == ("a", ["new"])


def test_the_machine_with_the_least_important_victims_is_taken() -> None:
    machines = [node(name, cpu="2") for name in "abc"]
    snapshot = cell(*machines, low("x", "a", "2", 5), low("y", "b", "2", 3), low("z", "c", priority=3), low("w", "c"))
    assert victims(snapshot, pod("p", cpu="2", priority=9)) == ("b", ["y"])
    assert victims(snapshot, pod("p", cpu="1", priority=9)) == ("c", ["w"])


def test_equals_and_machines_that_are_ruled_out_are_left_alone() -> None:
    snapshot = cell(node("a", cpu="1", taints=["t=:NoSchedule"]), node("b", cpu="1"), low("x", "a"), low("y", "b"))
    assert victims(snapshot, pod("p", cpu="1", priority=1)) is None
    assert victims(snapshot, pod("p", cpu="1", priority=2)) == ("b", ["y"])
    assert victims(snapshot, pod("p", cpu="1", priority=2, nodeSelector={"zone": "1"})) is None


def test_production_does_not_preempt_production() -> None:
    snapshot = cell(node("a", cpu="1"), low("x", "a", priority=PRODUCTION.start))
    assert victims(snapshot, pod("p", cpu="1", priority=PRODUCTION.start + 1)) is None
    assert victims(snapshot, pod("p", cpu="1", priority=PRODUCTION.stop)) == ("a", ["x"])
    snapshot = cell(node("a", cpu="1"), low("x", "a", priority=PRODUCTION.start - 1))
    assert victims(snapshot, pod("p", cpu="1", priority=PRODUCTION.start)) == ("a", ["x"])


def test_budgets_are_kept_where_possible() -> None:
    snapshot = cell(
        node("a", cpu="1"), node("b", cpu="1"), low("x", "a", labels={"app": "a"}), low("y", "b", priority=5)
    )
    budget = Budget("default", LabelSelector.parse("app=a"), 0)
    wanted = pod("p", cpu="1", priority=9)
    assert victims(snapshot, wanted) == ("a", ["x"])
    assert victims(snapshot, wanted, budget) == ("b", ["y"])
    assert victims(snapshot, wanted, Budget("other", LabelSelector.parse("app=a"), 0)) == ("a", ["x"])
    assert victims(snapshot, wanted, Budget("default", LabelSelector.parse("app=a"), 1)) == ("a", ["x"])
    snapshot.remove_node("b")
    assert victims(snapshot, wanted, budget) == ("a", ["x"])


def test_ports_and_affinity_can_be_had_by_preemption() -> None:
    snapshot = cell(node("a"), node("b"), low("x", "a", host_ports=[80]), low("y", "b", priority=9, host_ports=[80]))
    assert victims(snapshot, pod("p", host_ports=[80], priority=5)) == ("a", ["x"])
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}
    snapshot = cell(node("a"), low("x", "a", labels={"app": "a"}), low("y", "a"))
    assert victims(snapshot, pod("p", priority=5, affinity={"podAntiAffinity": {REQUIRED: [term]}})) == ("a", ["x"])
    assert victims(snapshot, pod("p", priority=5, affinity={"podAffinity": {REQUIRED: [term]}})) is None


# The plan and the live loop's part of it.


def decide(cache: CandidateCache, *pods: Obj) -> list[Decision]:
    pending = [
        Pending(key_of(one), cache.snapshot.classify(one), one["spec"].get("priority", 0), order)
        for order, one in enumerate(pods)
    ]
    return list(assign(cache, pending, NOW, random.Random(1)))


def test_the_room_is_kept_for_the_one_it_was_made_for() -> None:
    snapshot = cell(node("a", cpu="1"), low("x", "a"))
    cache, high = CandidateCache(snapshot, SPREADING), pod("p", cpu="1", priority=9)
    (decision,) = decide(cache, high)
    assert isinstance(decision, Preempt)
    assert (decision.node, decision.victims) == ("a", (Key("default", "x"),))
    assert decision.message == "0/1 nodes are available: 1 Insufficient cpu."
    ending = low("x", "a")
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    snapshot.place(key_of(ending), snapshot.classify(ending, placed=True), "a")
    assert isinstance(decide(cache, high)[0], Refuse), "no further victims while the first are ending"
    snapshot.remove(Key("default", "x"))
    assert isinstance(decide(cache, pod("q", cpu="1", priority=5))[0], Refuse)
    assert decide(cache, high) == [Bind(Key("default", "p"), "a")]
    assert snapshot.nominations == {}


def test_a_nomination_gives_way_to_a_more_important_pod() -> None:
    snapshot = cell(node("a", cpu="1"), low("x", "a"))
    cache = CandidateCache(snapshot, SPREADING)
    decide(cache, pod("p", cpu="1", priority=5))
    (decision,) = decide(cache, pod("q", cpu="1", priority=9))
    assert isinstance(decision, Preempt)
    assert decision.victims == (Key("default", "x"),)
    assert snapshot.nominations == {Key("default", "q"): "a"}


def test_two_pods_do_not_count_on_the_same_room() -> None:
    snapshot = cell(node("a", cpu="1"), node("b", cpu="1"), low("x", "a"), low("y", "b"))
    high = [pod(name, cpu="1", priority=9) for name in ("p", "q", "r")]
    decisions = decide(CandidateCache(snapshot, SPREADING), *high)
    assert [type(decision) for decision in decisions] == [Preempt, Preempt, Refuse]
    assert {decision.node for decision in decisions if isinstance(decision, Preempt)} == {"a", "b"}


@pytest.mark.parametrize("policy", ["Never", "PreemptLowerPriority"])
def test_a_pod_may_be_told_never_to_preempt(policy: str) -> None:
    snapshot = cell(node("a", cpu="1"), low("x", "a"))
    (decision,) = decide(CandidateCache(snapshot, SPREADING), pod("p", cpu="1", priority=9, preemptionPolicy=policy))
    assert isinstance(decision, Refuse if policy == "Never" else Preempt)


def test_a_plan_with_preemption_leaves_the_snapshot_as_it_was() -> None:
    snapshot = cell(node("a", cpu="1"), node("b", cpu="1"), low("x", "a"), low("y", "b", priority=7))
    snapshot.nominate(Key("default", "o"), snapshot.classify(pod("o", cpu="1", priority=3)), "a")
    before, nominations = snapshot.usage(), dict(snapshot.nominations)
    pending = [Pending(Key("default", "p"), snapshot.classify(pod("p", cpu="1", priority=9)), 9)]
    assert isinstance(plan(snapshot, pending, NOW, random.Random(1))[0], Preempt)
    assert (snapshot.usage(), snapshot.nominations) == (before, nominations)


some_pods = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3), st.integers(0, 4), st.sampled_from(["x", "y"])),
    max_size=7,
)


@settings(max_examples=300, deadline=None)
@given(some_pods, st.integers(1, 5), st.integers(0, 5), st.integers(0, 2), st.booleans())
def test_victims_are_allowed_sufficient_and_each_of_them_needed(
    there: list[tuple[str, int, int, str]], cpu: int, priority: int, allowed: int, by_trial: bool
) -> None:
    pods = {
        f"p{n}": low(f"p{n}", at, str(size), rank, labels={"app": app}) for n, (at, size, rank, app) in enumerate(there)
    }
    snapshot = cell(node("a", cpu="5"), node("b", cpu="6"), *pods.values())
    # A host port that nobody has changes nothing, but sums alone no longer say who must go.
    wanted = pod("q", cpu=str(cpu), priority=priority, host_ports=[80] if by_trial else [])
    found = victims(snapshot, wanted, Budget("default", LabelSelector.parse("app=x"), allowed))

    def enough(at: str, gone: tuple[str, ...]) -> bool:
        taken = sum(size for n, (where, size, _, _) in enumerate(there) if where == at and f"p{n}" not in gone)
        return taken + cpu <= {"a": 5, "b": 6}[at]

    lower = {
        at: [f"p{n}" for n, (where, _, rank, _) in enumerate(there) if where == at and rank < priority] for at in "ab"
    }
    possible = [
        at
        for at in "ab"
        for count in range(1, len(lower[at]) + 1)
        for gone in itertools.combinations(lower[at], count)
        if enough(at, gone) and not enough(at, ())
    ]
    if found is None:
        assert not possible
        return
    at, gone = found
    assert set(gone) <= set(lower[at])
    assert enough(at, tuple(gone))
    for spared in gone:
        assert not enough(at, tuple(name for name in gone if name != spared))

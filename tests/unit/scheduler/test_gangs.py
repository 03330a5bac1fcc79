"""Gangs: together or not at all, whoever competes, and nothing is left of an attempt that failed."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.podgroups import GangKey
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.gangs import Gang, GangBook
from corral.scheduler.plan import Bind, Decision, Pending, Preempt, Refuse, Wait, assign, plan
from corral.scheduler.preemption import Budget
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key_for(name: str) -> GangKey:
    return GangKey("scheduling.k8s.io", "default", name)


def snapshot_of(*nodes: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    return snapshot


def gang(snapshot: Snapshot, name: str, minimum: int, pods: Iterable[Obj], placed: int = 0) -> list[Pending]:
    group = Gang(key_for(name), minimum, placed)
    return [
        Pending(key_of(one), snapshot.classify(one), one["spec"].get("priority", 0), order, group)
        for order, one in enumerate(pods)
    ]


def members(name: str, count: int, **fields: object) -> list[Obj]:
    return [pod(f"{name}-{number}", **{"cpu": "1", **fields}) for number in range(count)]  # type: ignore[arg-type]


def decide(snapshot: Snapshot, pending: Sequence[Pending], seed: int = 1) -> Sequence[Decision]:
    return plan(snapshot, pending, NOW, random.Random(seed))


def bound(decisions: Iterable[Decision], prefix: str = "") -> list[str]:
    return [one.node for one in decisions if isinstance(one, Bind) and one.pod.name.startswith(prefix)]


def full_of(snapshot: Snapshot, machine: str, count: int, **fields: object) -> list[Key]:
    """Put `count` pods of one cpu on a machine."""
    placed = []
    for one in members(f"{machine}-filler", count, **fields):
        snapshot.place(key_of(one), snapshot.classify(one, placed=True), machine)
        placed.append(key_of(one))
    return placed


def test_a_gang_that_fits_is_bound_whole() -> None:
    snapshot = snapshot_of(node("a", cpu="2"), node("b", cpu="2"))
    assert Counter(bound(decide(snapshot, gang(snapshot, "g", 4, members("g", 4))))) == {"a": 2, "b": 2}


def test_a_gang_that_does_not_fit_takes_nothing_and_says_how_many_do() -> None:
    snapshot = snapshot_of(node("a", cpu="2"), node("b", cpu="1"))
    before = snapshot.usage()
    decisions = assign(
        CandidateCache(snapshot, SPREADING), gang(snapshot, "g", 5, members("g", 5)), NOW, random.Random(1)
    )
    words = "pod group g: only 3 of 5 members fit: 0/2 nodes are available: 2 Insufficient cpu."
    assert [one.message for one in decisions if isinstance(one, Refuse)] == [words] * 5
    assert snapshot.usage() == before


def test_a_gang_in_an_empty_cell_says_so() -> None:
    decisions = decide(Snapshot(), gang(snapshot_of(), "g", 2, members("g", 2)))
    words = "pod group g: only 0 of 2 members fit: no nodes available to schedule pods"
    assert {one.message for one in decisions if isinstance(one, Refuse)} == {words}


@pytest.mark.parametrize(
    ("minimum", "placed", "waiting", "words"),
    [
        (5, 0, 3, "pod group g waits for 2 more of 5 members"),
        (5, 1, 3, "pod group g waits for 1 more of 5 members"),
        (0, 0, 3, "pod group g does not exist"),
        (0, 2, 3, "pod group g does not exist"),
    ],
)
def test_a_gang_that_is_not_complete_waits(minimum: int, placed: int, waiting: int, words: str) -> None:
    snapshot = snapshot_of(node("a", cpu="9"))
    decisions = decide(snapshot, gang(snapshot, "g", minimum, members("g", waiting), placed))
    assert [one.message for one in decisions if isinstance(one, Wait)] == [words] * waiting


def test_more_members_than_the_minimum_are_taken_as_far_as_they_fit() -> None:
    snapshot = snapshot_of(node("a", cpu="3"))
    decisions = decide(snapshot, gang(snapshot, "g", 2, members("g", 5)))
    assert len(bound(decisions)) == 3
    refused = [one.message for one in decisions if isinstance(one, Refuse)]
    assert [message.partition(" preemption: ")[0] for message in refused] == [
        "0/1 nodes are available: 1 Insufficient cpu."
    ] * 2


def test_a_replacement_joins_those_that_have_machines() -> None:
    snapshot = snapshot_of(node("a", cpu="4"))
    full_of(snapshot, "a", 2)
    assert len(bound(decide(snapshot, gang(snapshot, "g", 3, members("g", 1), placed=2)))) == 1
    assert len(bound(decide(snapshot, gang(snapshot, "g", 3, members("g", 3), placed=3)))) == 2
    decisions = decide(snapshot, gang(snapshot, "g", 5, members("g", 3), placed=2))
    assert {one.message for one in decisions if isinstance(one, Refuse)} == {
        "pod group g: only 4 of 5 members fit: 0/1 nodes are available: 1 Insufficient cpu."
    }


def test_the_largest_member_is_placed_first() -> None:
    snapshot = snapshot_of(node("a", cpu="4"), node("b", cpu="4"))
    mixed = [*members("small", 4), pod("large", cpu="4")]
    for seed in range(5):
        assert len(bound(decide(snapshot, gang(snapshot, "g", 5, mixed), seed))) == 5


def test_the_more_important_of_two_gangs_wins_and_the_other_holds_nothing() -> None:
    snapshot = snapshot_of(node("a", cpu="4"))
    low = gang(snapshot, "low", 3, members("low", 3))
    high = gang(snapshot, "high", 3, members("high", 3, priority=1))
    decisions = decide(snapshot, [*low, *high])
    assert (len(bound(decisions, "high")), len(bound(decisions, "low"))) == (3, 0)


def test_a_gang_preempts_for_all_its_members_or_for_none() -> None:
    snapshot = snapshot_of(node("a", cpu="2"), node("b", cpu="2"))
    victims = full_of(snapshot, "a", 2)
    full_of(snapshot, "b", 1, priority=9)
    cache, before = CandidateCache(snapshot, SPREADING), snapshot.usage()
    decisions = assign(cache, gang(snapshot, "g", 4, members("g", 4, priority=5)), NOW, random.Random(1))
    assert {type(one) for one in decisions} == {Refuse}
    assert (snapshot.usage(), snapshot.nominations) == (before, {})

    waiting = gang(snapshot, "g", 3, members("g", 3, priority=5))
    decisions = assign(cache, waiting, NOW, random.Random(1))
    preempting = [one for one in decisions if isinstance(one, Preempt)]
    assert sorted(key for one in preempting for key in one.victims) == victims
    assert sorted(one.node for one in preempting) == ["a", "a", "b"]
    assert sorted(snapshot.nominations) == [one.key for one in waiting]
    assert all(snapshot.node_of(key) == "a" for key in victims), "they are there until they have ended"

    for key in victims:
        snapshot.remove(key)
    assert sorted(bound(assign(cache, waiting, NOW, random.Random(1)))) == ["a", "a", "b"]
    assert snapshot.nominations == {}


def test_a_gang_that_waits_for_its_victims_chooses_no_more() -> None:
    snapshot = snapshot_of(node("a", cpu="2"), node("b", cpu="2"))
    victims, others = full_of(snapshot, "a", 2), full_of(snapshot, "b", 2)
    cache, waiting = CandidateCache(snapshot, SPREADING), gang(snapshot, "g", 2, members("g", 2, priority=5))
    decisions = assign(cache, waiting, NOW, random.Random(1))
    chosen = {key for one in decisions if isinstance(one, Preempt) for key in one.victims}
    assert len(chosen) == 2
    nominations = dict(snapshot.nominations)
    for key in chosen:
        ending = pod(key.name, cpu="1")
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        snapshot.place(key, snapshot.classify(ending, placed=True), "a" if key in victims else "b")
    decisions = assign(cache, waiting, NOW, random.Random(1))
    assert {type(one) for one in decisions} == {Refuse}
    assert snapshot.nominations == nominations
    assert chosen <= {*victims, *others}


def test_a_budget_is_spent_by_the_gang_as_a_whole() -> None:
    snapshot = snapshot_of(node("a", cpu="2"), node("b", cpu="2"))
    kept = full_of(snapshot, "a", 2, labels={"app": "web"})
    full_of(snapshot, "b", 1, labels={"app": "web"})
    other = pod("other", cpu="1")
    snapshot.place(key_of(other), snapshot.classify(other, placed=True), "b")
    budget = Budget("default", LabelSelector.from_object({"matchLabels": {"app": "web"}}), 1)
    pending = gang(snapshot, "g", 2, members("g", 2, priority=5))
    decisions = plan(snapshot, pending, NOW, random.Random(1), budgets=[budget])
    gone = [key for one in decisions if isinstance(one, Preempt) for key in one.victims]
    assert len(gone) == 2
    assert key_of(other) in gone
    assert len(set(kept) - set(gone)) >= 1


some_machines = st.lists(st.sampled_from(["1", "2", "3"]), max_size=5)
some_gangs = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.lists(st.sampled_from(["500m", "1", "2"]), min_size=1, max_size=6),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=4,
)


def pending_of(snapshot: Snapshot, gangs: Sequence[tuple[int, list[str], int, int]]) -> list[Pending]:
    return [
        one
        for number, (minimum, sizes, priority, placed) in enumerate(gangs)
        for one in gang(
            snapshot,
            f"g{number}",
            minimum,
            [pod(f"g{number}-{place}", cpu=cpu, priority=priority) for place, cpu in enumerate(sizes)],
            placed,
        )
    ]


@settings(max_examples=150, deadline=None)
@given(some_machines, some_gangs, st.integers(0, 3), st.integers(0, 3))
def test_all_or_nothing_safe_repeatable_and_without_trace(
    machines: list[str], gangs: list[tuple[int, list[str], int, int]], filled: int, seed: int
) -> None:
    def fresh() -> Snapshot:
        snapshot = snapshot_of(*(node(f"n{number}", cpu=cpu) for number, cpu in enumerate(machines)))
        for number in range(min(filled, len(machines))):
            full_of(snapshot, f"n{number}", 1)
        return snapshot

    snapshot = fresh()
    pending = pending_of(snapshot, gangs)
    before, nominations = snapshot.usage(), dict(snapshot.nominations)
    decisions = decide(snapshot, pending, seed)
    assert (snapshot.usage(), snapshot.nominations) == (before, nominations)
    other = fresh()
    assert decisions == decide(other, pending_of(other, gangs), seed)
    assert sorted(one.pod for one in decisions) == sorted(one.key for one in pending)

    by_pod = {one.pod: one for one in decisions}
    for number, (minimum, sizes, _, placed) in enumerate(gangs):
        mine = [by_pod[Key("default", f"g{number}-{place}")] for place in range(len(sizes))]
        kinds = Counter(type(one) for one in mine)
        need = minimum - placed
        if need > 0:
            assert kinds[Bind] == 0 or kinds[Bind] >= need
            assert kinds[Preempt] == 0 or kinds[Bind] >= need or kinds[Preempt] == need
            assert (kinds[Wait] == len(sizes)) == (len(sizes) < need)

    free = {f"n{number}": 1000 * int(cpu) for number, cpu in enumerate(machines)}
    for name, usage in before.items():
        free[name] -= usage.requested.get("cpu", 0)
    for one in pending:
        decision = by_pod[one.key]
        if isinstance(decision, Bind):
            free[decision.node] -= one.pod_class.requests["cpu"]
    assert min(free.values(), default=0) >= 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(0, 3))
def test_of_two_gangs_that_do_not_fit_together_exactly_one_is_placed(
    first: int, second: int, machines: int, seed: int
) -> None:
    snapshot = snapshot_of(*(node(f"n{number}", cpu="1") for number in range(machines)))
    pending = [*gang(snapshot, "a", first, members("a", first)), *gang(snapshot, "b", second, members("b", second))]
    random.Random(seed).shuffle(pending)
    decisions = decide(snapshot, pending, seed)
    placed = len(bound(decisions, "a")), len(bound(decisions, "b"))
    assert placed[0] in (0, first)
    assert placed[1] in (0, second)
    if first + second <= machines:
        assert placed == (first, second)
    elif min(first, second) <= machines:
        assert sum(count > 0 for count in placed) == 1


def test_the_book_counts_members_with_a_machine_and_those_that_succeeded() -> None:
    book, key = GangBook(), key_for("g")
    assert book.gang(key) == Gang(key, 0)
    assert book.put(key, 3)
    assert not book.put(key, 3)
    assert book.see(key, Key("default", "p"), counts=True)
    assert not book.see(key, Key("default", "p"), counts=True)
    assert book.gang(key) == Gang(key, 3, 1)
    assert book.see(key, Key("default", "p"), counts=False)
    assert not book.see(key, Key("default", "p"), counts=False)
    assert book.gang(key) == Gang(key, 3)
    assert book.put(key, 0)
    assert book.gang(key) is None
    assert book.put(key, None)
    assert book.gang(key) == Gang(key, 0)


some_fillers = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["1", "2"]), st.integers(0, 3)), max_size=6)


@settings(max_examples=150, deadline=None)
@given(some_machines, some_fillers, some_gangs, st.integers(0, 3))
def test_when_its_victims_are_gone_a_gang_is_bound_whole(
    machines: list[str], fillers: list[tuple[int, str, int]], gangs: list[tuple[int, list[str], int, int]], seed: int
) -> None:
    snapshot = snapshot_of(*(node(f"n{number}", cpu=cpu) for number, cpu in enumerate(machines)))
    priorities: dict[Key, int] = {}
    free = {f"n{number}": int(cpu) for number, cpu in enumerate(machines)}
    for number, (at, cpu, priority) in enumerate(fillers):
        machine = f"n{at}"
        if free.get(machine, 0) >= int(cpu):
            free[machine] -= int(cpu)
            filler = pod(f"filler-{number}", cpu=cpu, priority=priority)
            snapshot.place(key_of(filler), snapshot.classify(filler, placed=True), machine)
            priorities[key_of(filler)] = priority
    minimum, sizes, priority, _ = gangs[0]
    pending = pending_of(snapshot, [(minimum, sizes, priority, 0)])
    cache = CandidateCache(snapshot, SPREADING)
    preempting = [one for one in assign(cache, pending, NOW, random.Random(seed)) if isinstance(one, Preempt)]
    nominated, victims = set(snapshot.nominations), {key for one in preempting for key in one.victims}
    assert all(priorities[key] < priority for key in victims)
    assert nominated == {one.pod for one in preempting}
    if len(nominated) < minimum:
        # Nobody goes for a gang that is not whole then; beyond the minimum each member is a pod like any other.
        assert not victims or len(sizes) - len(nominated) >= minimum
        return
    for key in victims:
        snapshot.remove(key)
    decisions = assign(cache, [one for one in pending if one.key in nominated], NOW, random.Random(seed))
    assert {type(one) for one in decisions} == {Bind}

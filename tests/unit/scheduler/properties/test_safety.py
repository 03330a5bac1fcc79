"""What a plan never does, whatever the cell: each decision is checked against the plain reference and the bands."""

import random
from copy import deepcopy
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduler.properties.cells import NODES, roomy_node, social_pod, some_node, some_pod
from tests.unit.scheduler.properties.reference import Cell, Obj
from tests.unit.scheduler.properties.test_incremental import by_priority, totals

from corral.kinds.types import Key, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Decision, Pending, Preempt, Refuse, assign, plan
from corral.scheduler.preemption import PRODUCTION
from corral.scheduler.profile import PROFILES, SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BANDS = [0, 100, PRODUCTION.start, PRODUCTION.start + 5, PRODUCTION.stop]
some_priority = st.sampled_from(BANDS)
some_nodes = st.one_of(
    st.lists(some_node(), min_size=1, max_size=4, unique_by=lambda found: found["metadata"]["name"]),
    st.lists(roomy_node(), min_size=1, max_size=4, unique_by=lambda found: found["metadata"]["name"]),
)
some_placed = st.lists(st.tuples(some_pod, st.sampled_from(NODES), some_priority), max_size=5)
some_waiting = st.lists(st.tuples(st.one_of(some_pod, social_pod), some_priority), min_size=1, max_size=6)


class Live:
    """A cell and the snapshot of it that decisions change."""

    def __init__(self, nodes: list[Obj], placed: list[tuple[Obj, str, int]]) -> None:
        self.cell, self.snapshot = Cell(), Snapshot()
        for one in nodes:
            self.cell.nodes[one["metadata"]["name"]] = one
            self.snapshot.put_node(one)
        for number, (found, name, priority) in enumerate(placed):
            self.put(self.named(found, f"x{number}", priority), name)

    @staticmethod
    def named(found: Obj, name: str, priority: int) -> Obj:
        made = deepcopy(found)
        made["metadata"] |= {"name": name, "uid": f"uid-{name}"}
        made["metadata"].pop("deletionTimestamp", None)
        made["spec"]["priority"] = priority
        return made

    def put(self, found: Obj, name: str) -> None:
        there = deepcopy(found)
        there["spec"]["nodeName"] = name
        self.cell.pods[key_of(there)] = there
        self.snapshot.place(key_of(there), self.snapshot.classify(there, placed=True), name)

    def pending(self, pods: list[Obj]) -> list[Pending]:
        return [
            Pending(key_of(one), self.snapshot.classify(one), one["spec"].get("priority", 0), order)
            for order, one in enumerate(pods)
        ]

    def with_nominations(self, pods: dict[Key, Obj], but: Key) -> Cell:
        """The cell with the pods for which room is kept as if they were there."""
        kept = {
            key: {**pods[key], "spec": {**pods[key]["spec"], "nodeName": name}}
            for key, name in self.snapshot.nominations.items()
            if key != but
        }
        return Cell(self.cell.nodes, self.cell.namespaces, self.cell.pods | kept)


def check(live: Live, decision: Decision, pods: dict[Key, Obj], before: Cell) -> None:
    wanted = pods[decision.pod]
    if isinstance(decision, Bind):
        assert before.refusals(wanted, decision.node) == []
        return
    for name in before.nodes:
        assert before.refusals(wanted, name), f"{decision.pod} was refused although {name} takes it"
    refusal = decision.refusal if isinstance(decision, Preempt) else decision
    assert isinstance(refusal, Refuse)
    assert refusal.machines == len(before.nodes)
    assert sum(refusal.reasons.values()) >= len(before.nodes)
    if not isinstance(decision, Preempt):
        return
    mine = wanted["spec"]["priority"]
    for key in decision.victims:
        victim = before.pods[key]
        assert victim["spec"]["nodeName"] == decision.node
        assert victim["spec"]["priority"] < mine
        assert not (victim["spec"]["priority"] in PRODUCTION and mine in PRODUCTION)
    gone = {key: one for key, one in before.pods.items() if key not in decision.victims}
    # Nominations that gave way are no longer kept by now.
    kept = {key: one for key, one in gone.items() if key in live.cell.pods or key in live.snapshot.nominations}
    assert Cell(before.nodes, before.namespaces, kept).refusals(wanted, decision.node) == []


@settings(max_examples=200, deadline=None)
@given(some_nodes, some_placed, some_waiting, st.integers(0, 3), st.sampled_from(sorted(PROFILES)))
def test_each_decision_is_one_that_the_reference_allows(
    nodes: list[Obj], placed: list[tuple[Obj, str, int]], waiting: list[tuple[Obj, int]], seed: int, profile: str
) -> None:
    live, rng = Live(nodes, placed), random.Random(seed)
    cache = CandidateCache(live.snapshot, PROFILES[profile])
    pods = {
        key_of(one): one
        for number, (found, rank) in enumerate(waiting)
        for one in [live.named(found, f"q{number}", rank)]
    }
    for wanted in pods.values():
        before = live.with_nominations(pods, key_of(wanted))
        (decision,) = assign(cache, live.pending([wanted]), NOW, rng)
        check(live, decision, pods, before)
        if isinstance(decision, Bind):
            live.cell.pods[decision.pod] = {**wanted, "spec": {**wanted["spec"], "nodeName": decision.node}}


@settings(max_examples=100, deadline=None)
@given(some_nodes, some_placed, some_waiting, st.integers(0, 3))
def test_a_plan_repeats_itself_and_leaves_no_trace(
    nodes: list[Obj], placed: list[tuple[Obj, str, int]], waiting: list[tuple[Obj, int]], seed: int
) -> None:
    live = Live(nodes, placed)
    asking = [live.named(found, f"q{number}", rank) for number, (found, rank) in enumerate(waiting)]
    pending = live.pending(asking)

    def state(snapshot: Snapshot) -> object:
        derived = totals(snapshot, CandidateCache(snapshot, SPREADING), asking)
        return snapshot.usage(), dict(snapshot.nominations), by_priority(snapshot), derived

    found = state(live.snapshot)
    first = plan(live.snapshot, pending, NOW, random.Random(seed))
    assert state(live.snapshot) == found
    assert plan(live.snapshot, pending, NOW, random.Random(seed)) == first
    other = live.snapshot.copy()
    again = [
        Pending(one.key, other.classify(wanted), one.priority, one.order)
        for one, wanted in zip(pending, asking, strict=True)
    ]
    assert plan(other, again, NOW, random.Random(seed)) == first
    assert state(other) == found


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4), st.lists(st.tuples(st.integers(1, 4), some_priority), min_size=1, max_size=16), st.integers(0, 3)
)
def test_cascades_end(machines: int, sizes: list[tuple[int, int]], seed: int) -> None:
    """Victims are made anew, as controllers would, and push out others in turn: at most once a band."""
    live, rng = Live([node(NODES[number], cpu="4") for number in range(machines)], []), random.Random(seed)
    cache = CandidateCache(live.snapshot, SPREADING)
    depth = {}
    waiting = []
    for number, (cpu, priority) in enumerate(sizes):
        waiting.append(pod(f"q{number}", cpu=str(cpu), priority=priority))
        depth[f"q{number}"] = 0
    there: dict[Key, Obj] = {}
    for _ in range(len(BANDS) * len(sizes) + 2):
        decisions = assign(cache, live.pending(waiting), NOW, rng)
        by_key = {key_of(one): one for one in waiting}
        waiting = []
        for decision in decisions:
            if isinstance(decision, Bind):
                there[decision.pod] = by_key[decision.pod]
                continue
            waiting.append(by_key[decision.pod])
            if isinstance(decision, Preempt):
                for key in decision.victims:
                    live.snapshot.remove(key)
                    waiting.append(there.pop(key))
                    depth[key.name] = max(depth[key.name], depth[decision.pod.name] + 1)
        if not any(isinstance(decision, Bind | Preempt) for decision in decisions):
            break
    else:
        raise AssertionError("pods push each other out for ever")
    assert max(depth.values()) < len(BANDS)
    for name in live.cell.nodes:
        taken = sum(
            int(one["spec"]["containers"][0]["resources"]["requests"]["cpu"])
            for key, one in there.items()
            if live.snapshot.node_of(key) == name
        )
        assert taken <= 4

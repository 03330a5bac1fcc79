"""Where a pod may go: for every pod and machine of small random cells, the plain reference says the same."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.scheduler.properties.cells import (
    NODES,
    SPACES,
    choosy_pod,
    port_pod,
    roomy_node,
    social_pod,
    some_node,
    some_pod,
)
from tests.unit.scheduler.properties.reference import Cell, Obj

from corral.kinds.types import key_of
from corral.scheduler import candidates
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.profile import SPREADING
from corral.scheduler.scores import NEVER
from corral.scheduler.snapshot import Snapshot

some_namespaces = st.fixed_dictionaries({}, optional={space: st.sampled_from([{}, {"team": "x"}]) for space in SPACES})
hard_nodes = st.lists(some_node(), min_size=1, max_size=5, unique_by=lambda found: found["metadata"]["name"])
roomy_nodes = st.lists(roomy_node(), min_size=2, max_size=5, unique_by=lambda found: found["metadata"]["name"])


def put_on(pods: st.SearchStrategy[Obj], most: int) -> st.SearchStrategy[list[tuple[Obj, str]]]:
    return st.lists(st.tuples(pods, st.sampled_from(NODES)), max_size=most)


def build(
    nodes: list[Obj], placed: list[tuple[Obj, str]], namespaces: dict[str, dict[str, str]]
) -> tuple[Cell, Snapshot]:
    cell, snapshot = Cell(namespaces=dict(namespaces)), Snapshot()
    for name, labels in namespaces.items():
        snapshot.put_namespace(name, labels)
    for one in nodes:
        cell.nodes[one["metadata"]["name"]] = one
        snapshot.put_node(one)
    for number, (one, name) in enumerate(placed):
        one["metadata"]["name"] = f"x{number}"
        one["spec"]["nodeName"] = name
        cell.pods[key_of(one)] = one
        snapshot.place(key_of(one), snapshot.classify(one, placed=True), name)
    return cell, snapshot


def agree(cell: Cell, snapshot: Snapshot, cache: CandidateCache, wanted: Obj) -> None:
    """One pod, every machine, every way of asking."""
    pod_class = snapshot.classify(wanted)
    totals = cache.totals(pod_class)
    fitting: set[int] = set()
    for name in cell.nodes:
        row = snapshot.row(name)
        assert row is not None
        refusals = cell.refusals(wanted, name)
        explained = [reason for rule in SPREADING.filters for reason in rule.explain(snapshot, pod_class, row)]
        assert bool(explained) == bool(refusals), (name, refusals, explained)
        assert (totals[row] > NEVER) == (not refusals), (name, refusals)
        fitting |= set() if refusals else {row}
    for few in (0, len(totals)):
        # By blocks, as in a large cell, and by looking at all machines.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(candidates, "_FEW", few)
            patch.setattr(candidates, "_FEW_IN_DOMAINS", few)
            chosen = cache.choose(pod_class, random.Random(few))
        assert (chosen in fitting) if fitting else chosen is None
        assert chosen is None or totals[chosen] == totals.max()


@settings(max_examples=200, deadline=None)
@given(hard_nodes, put_on(choosy_pod, 4), st.lists(choosy_pod, min_size=1, max_size=4))
def test_what_machines_and_pods_ask_of_each_other(
    nodes: list[Obj], placed: list[tuple[Obj, str]], asking: list[Obj]
) -> None:
    cell, snapshot = build(nodes, placed, {})
    cache = CandidateCache(snapshot, SPREADING)
    for wanted in asking:
        agree(cell, snapshot, cache, wanted)


@settings(max_examples=60, deadline=None)
@given(roomy_nodes, put_on(port_pod, 4), st.lists(port_pod, min_size=1, max_size=4))
def test_ports_of_machines(nodes: list[Obj], placed: list[tuple[Obj, str]], asking: list[Obj]) -> None:
    cell, snapshot = build(nodes, placed, {})
    cache = CandidateCache(snapshot, SPREADING)
    for wanted in asking:
        agree(cell, snapshot, cache, wanted)


@settings(max_examples=300, deadline=None)
@given(roomy_nodes, put_on(social_pod, 6), some_namespaces, st.lists(social_pod, min_size=1, max_size=4))
def test_what_pods_ask_of_each_other(
    nodes: list[Obj], placed: list[tuple[Obj, str]], namespaces: dict[str, dict[str, str]], asking: list[Obj]
) -> None:
    cell, snapshot = build(nodes, placed, namespaces)
    cache = CandidateCache(snapshot, SPREADING)
    for wanted in asking:
        agree(cell, snapshot, cache, wanted)


@settings(max_examples=100, deadline=None)
@given(hard_nodes, put_on(some_pod, 6), some_namespaces, st.lists(some_pod, min_size=1, max_size=4))
def test_all_rules_together(
    nodes: list[Obj], placed: list[tuple[Obj, str]], namespaces: dict[str, dict[str, str]], asking: list[Obj]
) -> None:
    cell, snapshot = build(nodes, placed, namespaces)
    cache = CandidateCache(snapshot, SPREADING)
    for wanted in asking:
        agree(cell, snapshot, cache, wanted)

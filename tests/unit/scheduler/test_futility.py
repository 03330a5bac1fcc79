"""Why preemption would not help, counted and worded as kube-scheduler does."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.types import Obj, key_of
from corral.scheduler.filters import Filter
from corral.scheduler.futility import futility
from corral.scheduler.preemption import find_victims
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

HELPLESS = "Preemption is not helpful for scheduling"
NOBODY = "No preemption victims found for incoming pod"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}


def snapshot_of(*objects: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in objects:
        if one["kind"] == "Node":
            snapshot.put_node(one)
        else:
            snapshot.place(key_of(one), snapshot.classify(one, placed=True), one["spec"]["nodeName"])
    return snapshot


def why_not(snapshot: Snapshot, wanted: Obj) -> str:
    pod_class = snapshot.classify(wanted)
    assert find_victims(snapshot, pod_class, (), SPREADING) is None
    return futility(snapshot, pod_class, SPREADING)


@pytest.mark.parametrize(
    ("machine", "wanted", "reason"),
    [
        (node("a", taints=["gpu=:NoSchedule"]), pod("p"), HELPLESS),
        (node("a", unschedulable=True), pod("p"), HELPLESS),
        (node("a"), pod("p", nodeSelector={"zone": "1"}), HELPLESS),
        (node("a", cpu="1"), pod("p", cpu="2"), HELPLESS),
        (node("a", cpu="2"), pod("p", cpu="2"), NOBODY),
        (node("a"), pod("p", cpu="1", affinity={"podAffinity": {REQUIRED: [TERM]}}), HELPLESS),
        (node("a", labels={"zone": "1"}), pod("p", affinity={"podAntiAffinity": {REQUIRED: [TERM]}}), NOBODY),
        (node("a"), pod("p", topologySpreadConstraints=[TERM | {"maxSkew": 1}]), HELPLESS),
        (
            node("a", labels={"zone": "1"}),
            pod("p", topologySpreadConstraints=[TERM | {"maxSkew": 1, "minDomains": 2}]),
            NOBODY,
        ),
        (node("a"), pod("p", host_ports=[80]), NOBODY),
    ],
)
def test_a_machine_with_an_equal_on_it(machine: Obj, wanted: Obj, reason: str) -> None:
    there = pod("x", cpu="1", node_name="a", labels={"app": "a"}, host_ports=[80])
    wanted["metadata"]["labels"] = {"app": "a"} if "topologySpreadConstraints" in wanted["spec"] else {}
    assert why_not(snapshot_of(machine, there), wanted) == f"0/1 nodes are available: 1 {reason}."


def test_machines_are_counted_by_reason() -> None:
    snapshot = snapshot_of(
        node("large", cpu="4"),
        node("empty", cpu="4"),
        node("small", cpu="1"),
        node("tainted", taints=["gpu=:NoSchedule"]),
        pod("low", cpu="1", node_name="large", priority=1),
        pod("high", cpu="2", node_name="large", priority=9),
        pod("equal", cpu="4", node_name="empty", priority=5),
    )
    assert why_not(snapshot, pod("p", cpu="3", priority=5)) == (
        f"0/4 nodes are available: 1 Insufficient cpu, 1 {NOBODY}, 2 {HELPLESS}."
    )


def test_who_does_not_preempt_says_so() -> None:
    snapshot = snapshot_of(node("a", cpu="1"), pod("low", cpu="1", node_name="a"))
    patient = pod("p", cpu="1", priority=9, preemptionPolicy="Never")
    assert why_not(snapshot, patient) == "not eligible due to preemptionPolicy=Never."


some_node = st.builds(
    node,
    st.sampled_from(["n1", "n2", "n3", "n4"]),
    cpu=st.sampled_from(["1", "2", "4"]),
    labels=st.dictionaries(st.just("zone"), st.sampled_from(["1", "2"])),
    taints=st.lists(st.just("a=:NoSchedule"), max_size=1),
)
some_pod = st.builds(
    pod,
    st.sampled_from([f"p{number}" for number in range(8)]),
    node_name=st.sampled_from(["n1", "n2", "n3", "n4"]),
    cpu=st.sampled_from(["1", "2"]),
    priority=st.integers(0, 3),
    labels=st.sampled_from([{}, {"app": "a"}]),
    host_ports=st.sampled_from([[], [80]]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(some_node, min_size=1, max_size=4),
    st.lists(some_pod, max_size=8),
    st.sampled_from(["1", "3", "9"]),
    st.sampled_from([{}, {"podAffinity": {REQUIRED: [TERM]}}, {"podAntiAffinity": {REQUIRED: [TERM]}}]),
    st.integers(0, 3),
)
def test_every_machine_has_a_reason(nodes: list[Obj], there: list[Obj], cpu: str, affinity: Obj, priority: int) -> None:
    snapshot = snapshot_of(*nodes, *there)
    wanted = snapshot.classify(pod("q", cpu=cpu, priority=priority, affinity=affinity, host_ports=[80]))
    rules: list[Filter] = list(SPREADING.filters)
    refused = all(any(rule.explain(snapshot, wanted, row) for rule in rules) for row in snapshot.rows())
    if not refused or find_victims(snapshot, wanted, (), SPREADING) is not None:
        return
    text = futility(snapshot, wanted, SPREADING)
    head, _, reasons = text.partition(": ")
    assert head == f"0/{len(snapshot)} nodes are available"
    # Only cpu can be short here, so that no machine has two reasons.
    assert sum(int(part.split()[0]) for part in reasons.removesuffix(".").split(", ")) == len(snapshot)
    nobody = sum(not any(other.peers.priority < priority for _, other in snapshot.pods(row)) for row in snapshot.rows())
    found = re.search(rf"(\d+) {NOBODY}", text)
    assert int(found[1]) <= nobody if found else True

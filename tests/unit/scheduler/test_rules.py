"""The resource rules of kube-scheduler v1.36, case by case as its documentation states them."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.filters.ports import Ports
from corral.scheduler.filters.resources import Resources
from corral.scheduler.plan import Bind, Pending, Refuse, plan
from corral.scheduler.scores.node_affinity import PreferredAffinity
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.trim import trim_pod
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20
HUGE = {"hugepages-2Mi": "4Mi"}


def cell(*nodes: Obj, placed: tuple[Obj, ...] = ()) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    for one in placed:
        snapshot.place(key_of(one), snapshot.classify(trim_pod(one), placed=True), one["spec"]["nodeName"])
    return snapshot


def lacking(machine: Obj, wanted: Obj, *placed: Obj) -> list[str]:
    """What the only machine lacks for the pod."""
    snapshot = cell(machine, placed=placed)
    (row,) = snapshot.rows()
    return Resources().explain(snapshot, snapshot.classify(wanted), row)


def asking(requests: Mapping[str, str], **more: Any) -> Obj:
    return pod("p", requests=requests, **more)


def sidecar(**requests: str) -> Obj:
    return {"name": "s", "restartPolicy": "Always", "resources": {"requests": requests}}


def once(**requests: str) -> Obj:
    return {"name": "i", "resources": {"requests": requests}}


@pytest.mark.parametrize(
    ("machine", "wanted", "expected"),
    [
        (node("a"), asking({"ephemeral-storage": "1"}), ["Insufficient ephemeral-storage"]),
        (node("a", extra={"ephemeral-storage": "1Gi"}), asking({"ephemeral-storage": "1Gi"}), []),
        (node("a"), asking({"foo.com/bar": "1"}), ["Insufficient foo.com/bar"]),
        (node("a", extra={"foo.com/bar": "2"}), asking({"foo.com/bar": "2"}), []),
        # Nothing of a resource is always there, known or not, free or not.
        (node("a", cpu="0"), asking({"cpu": "0", "foo.com/bar": "0"}), []),
        (node("a", extra=HUGE), asking({"hugepages-2Mi": "4Mi"}), []),
        (node("a", extra=HUGE), asking({"hugepages-2Mi": "6Mi"}), ["Insufficient hugepages-2Mi"]),
        (node("a", extra=HUGE), asking({"hugepages-1Gi": "1Gi"}), ["Insufficient hugepages-1Gi"]),
        # Every resource that lacks is named.
        (
            node("a", cpu="1", memory="1Gi"),
            asking({"cpu": "2", "memory": "2Gi"}),
            ["Insufficient cpu", "Insufficient memory"],
        ),
        # Overhead counts on top.
        (node("a", cpu="1"), asking({"cpu": "1"}, overhead={"cpu": "1m"}), ["Insufficient cpu"]),
        # Init containers run one after the other, sidecars beside everything after them.
        (node("a", cpu="1"), asking({"cpu": "1"}, initContainers=[once(cpu="1"), once(cpu="1")]), []),
        (node("a", cpu="1"), asking({"cpu": "1"}, initContainers=[once(cpu="1100m")]), ["Insufficient cpu"]),
        (node("a", cpu="1"), asking({"cpu": "1"}, initContainers=[sidecar(cpu="1m")]), ["Insufficient cpu"]),
        (node("a", cpu="1"), asking({}, initContainers=[once(cpu="1"), sidecar(cpu="1")]), []),
        (node("a", cpu="1"), asking({}, initContainers=[sidecar(cpu="1m"), once(cpu="1")]), ["Insufficient cpu"]),
        # What is asked for the pod as a whole counts instead of the sum of its containers.
        (node("a", cpu="2"), asking({"cpu": "1"}, resources={"requests": {"cpu": "3"}}), ["Insufficient cpu"]),
        (node("a", cpu="2"), asking({"cpu": "3"}, resources={"requests": {"cpu": "2"}}), []),
        (
            node("a", cpu="2"),
            asking({"cpu": "3"}, resources={"requests": {"cpu": "2"}}, overhead={"cpu": "1"}),
            ["Insufficient cpu"],
        ),
        (node("a", pods="0"), pod("p"), ["Too many pods"]),
    ],
)
def test_what_a_pod_asks_for(machine: Obj, wanted: Obj, expected: list[str]) -> None:
    assert lacking(machine, wanted) == expected


def test_nothing_asked_for_fits_on_a_machine_that_is_over_committed() -> None:
    there = pod("there", cpu="4", memory="1Gi", node_name="a")
    assert lacking(node("a", cpu="2"), pod("p", memory="1Gi"), there) == []
    assert lacking(node("a", cpu="2"), pod("p", cpu="1m"), there) == ["Insufficient cpu"]
    assert lacking(node("a", pods="1"), pod("p"), there) == ["Too many pods"]


def test_a_pod_that_shrinks_holds_its_room_until_its_machine_has_let_go() -> None:
    there = pod("there", cpu="1", node_name="a")
    granted = {"name": "main", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "3"}}}
    there["status"] = {"phase": "Running", "containerStatuses": [granted]}
    assert lacking(node("a", cpu="4"), pod("p", cpu="2"), there) == ["Insufficient cpu"]
    granted["resources"] = {"requests": {"cpu": "1"}}
    assert lacking(node("a", cpu="4"), pod("p", cpu="2"), there) == []


def test_a_pod_that_grows_beyond_its_machine_holds_what_it_has() -> None:
    there = pod("there", cpu="3", node_name="a")
    granted = {"name": "main", "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}}
    there["status"] = {"phase": "Running", "containerStatuses": [granted]}
    assert lacking(node("a", cpu="4"), pod("p", cpu="2"), there) == ["Insufficient cpu"]
    there["status"]["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    assert lacking(node("a", cpu="4"), pod("p", cpu="2"), there) == []


def test_a_status_that_repeats_the_spec_makes_no_class_of_its_own() -> None:
    snapshot = cell(node("a"))
    there = pod("there", cpu="1", node_name="a")
    before = snapshot.classify(trim_pod(there), placed=True)
    same = {"name": "main", "allocatedResources": {"cpu": "1000m"}, "resources": {"requests": {"cpu": "1"}}}
    there["status"] = {"phase": "Running", "containerStatuses": [same]}
    assert snapshot.classify(trim_pod(there), placed=True) is before
    assert "containerStatuses" not in trim_pod(there)["status"]


@pytest.mark.parametrize(
    ("wanted", "load"),
    [
        # kube-scheduler counts 100m and 200Mi for each container that says nothing, in scores only.
        (pod("p"), (100, 200 * MIB)),
        (pod("p", cpu="1"), (1000, 200 * MIB)),
        (
            pod("p", containers=[{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}}}]),
            (1100, 400 * MIB),
        ),
        (pod("p", memory="1Mi", initContainers=[{"name": "i"}]), (100, 200 * MIB)),
        (pod("p", memory="1Mi", initContainers=[{"name": "i", "restartPolicy": "Always"}]), (200, 201 * MIB)),
    ],
)
def test_what_scores_count_for_a_pod_that_says_nothing(wanted: Obj, load: tuple[int, int]) -> None:
    pod_class = cell(node("a")).classify(wanted)
    assert tuple(pod_class.load) == load
    assert "cpu" in pod_class.requests or load[0] < 1000


@pytest.mark.parametrize(
    ("taken", "wanted", "free"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80, "protocol": "UDP"}, {"hostPort": 80}, True),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80}, False),
        ({"hostPort": 80, "hostIP": "0.0.0.0"}, {"hostPort": 80, "hostIP": "127.0.0.1"}, False),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "127.0.0.1"}, False),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "127.0.0.2"}, True),
    ],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_host_ports(taken: Obj, wanted: Obj, free: bool, kind: str) -> None:
    def using(name: str, port: Obj, **more: Any) -> Obj:
        container = {"name": "c", "ports": [{"containerPort": 1, "protocol": "TCP"} | port]}
        spec: Obj = {kind: [container | ({"restartPolicy": "Always"} if kind != "containers" else {})]}
        return pod(name, **spec, **more)

    snapshot = cell(node("a"), placed=(using("there", taken, node_name="a"),))
    (row,) = snapshot.rows()
    assert (Ports().explain(snapshot, snapshot.classify(using("p", wanted)), row) == []) is free


def test_an_empty_preferred_term_says_nothing() -> None:
    real = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    preferred = [{"weight": 50, "preference": {}}, {"weight": 50, "preference": real}]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    snapshot = cell(node("a", labels={"disk": "ssd"}), node("b"))
    pod_class = snapshot.classify(pod("p", affinity=affinity))
    counts = PreferredAffinity().count(snapshot, pod_class)
    assert counts is not None
    scores = PreferredAffinity().score(counts, np.zeros(len(counts)))
    assert scores is not None
    assert {snapshot.machine(row).name: int(scores[row]) for row in snapshot.rows()} == {"a": 100, "b": 0}


def test_a_required_term_without_content_matches_no_machine() -> None:
    needed: Obj = {"nodeSelectorTerms": [{}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": needed}}
    snapshot = cell(node("a"))
    wanted = pod("p", affinity=affinity)
    (decision,) = plan(snapshot, [Pending(key_of(wanted), snapshot.classify(wanted))], NOW, random.Random(1))
    assert isinstance(decision, Refuse)
    assert decision.summary == "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."


def test_the_event_names_what_each_machine_lacks() -> None:
    snapshot = cell(node("a", cpu="1"), node("b", memory="1Gi"), node("c", taints=["k=v:NoSchedule"]))
    wanted = pod("p", cpu="2", memory="2Gi", requests={"foo.com/bar": "1"})
    (decision,) = plan(snapshot, [Pending(key_of(wanted), snapshot.classify(wanted))], NOW, random.Random(1))
    assert isinstance(decision, Refuse)
    assert decision.summary == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
        "1 node(s) had untolerated taint(s), 2 Insufficient foo.com/bar."
    )


def test_who_has_ended_takes_nothing() -> None:
    snapshot = cell(node("a", cpu="1"), placed=(pod("there", cpu="1", node_name="a"),))
    wanted = Pending(Key("default", "p"), snapshot.classify(pod("p", cpu="1")))
    assert isinstance(plan(snapshot, [wanted], NOW, random.Random(1))[0], Refuse)
    snapshot.remove(Key("default", "there"))
    assert plan(snapshot, [wanted], NOW, random.Random(1)) == [Bind(wanted.key, "a")]

"""Each filter, its explanation and its wording."""

import re
from typing import Any

import numpy as np
import pytest

from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.filters import Filter
from corral.scheduler.filters.node_affinity import NodeAffinity
from corral.scheduler.filters.node_name import NodeName
from corral.scheduler.filters.ports import Ports
from corral.scheduler.filters.resources import Resources
from corral.scheduler.filters.taints import Taints
from corral.scheduler.filters.unschedulable import Unschedulable
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

AFFINITY = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"


def cell(*nodes: Obj, placed: tuple[Obj, ...] = ()) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    for one in placed:
        snapshot.place(key_of(one), snapshot.classify(one, placed=True), one["spec"]["nodeName"])
    return snapshot


def verdicts(rule: Filter, snapshot: Snapshot, wanted: Obj) -> dict[str, list[str]]:
    """Each machine's reasons; checks that the three ways of asking agree."""
    pod_class = snapshot.classify(wanted)
    mask = rule.passes(snapshot, pod_class)
    found: dict[str, list[str]] = {}
    refused = []
    for row in snapshot.rows():
        reasons = rule.explain(snapshot, pod_class, row)
        assert (not reasons) == (mask is None or bool(mask[row]))
        found[snapshot.machine(row).name] = reasons
        refused += [row] if reasons else []
    tally = rule.tally(snapshot, pod_class, np.array(refused, dtype=np.intp)) if refused else {}
    counted: dict[str, int] = {}
    for reasons in found.values():
        for reason in reasons:
            # Which taints is told machine by machine only.
            reason = re.sub(r"taint \{.*\}", "taint(s)", reason)
            counted[reason] = counted.get(reason, 0) + 1
    assert dict(tally) == counted
    return found


def required(*terms: dict[str, Any]) -> Obj:
    selector = {"nodeSelectorTerms": list(terms)}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}


def test_resources_counts_what_is_taken() -> None:
    snapshot = cell(
        node("a", cpu="1"),
        node("b", cpu="2", memory="1Gi"),
        node("c", pods="1"),
        placed=(pod("x", cpu="600m", node_name="a"), pod("y", node_name="c")),
    )
    assert verdicts(Resources(), snapshot, pod("p", cpu="500m", memory="2Gi")) == {
        "a": ["Insufficient cpu"],
        "b": ["Insufficient memory"],
        "c": ["Too many pods"],
    }
    assert verdicts(Resources(), snapshot, pod("p", cpu="400m"))["a"] == []


def test_an_extended_resource_that_no_machine_has_is_insufficient_everywhere() -> None:
    snapshot = cell(node("a"), node("b", extra={"nvidia.com/gpu": "2"}))
    wanted = pod("p", requests={"nvidia.com/gpu": "1"})
    assert verdicts(Resources(), snapshot, wanted) == {"a": ["Insufficient nvidia.com/gpu"], "b": []}
    wanted = pod("p", requests={"example.com/foo": "1"})
    assert verdicts(Resources(), snapshot, wanted)["b"] == ["Insufficient example.com/foo"]


def test_node_name_is_insisted_on() -> None:
    snapshot = cell(node("a"), node("b"))
    found = verdicts(NodeName(), snapshot, pod("p", node_name="b"))
    assert found == {"a": ["node(s) didn't match the requested node name"], "b": []}
    assert all(verdicts(NodeName(), snapshot, pod("p", node_name="none")).values())


def test_a_cordoned_machine_takes_only_pods_that_tolerate_it() -> None:
    snapshot = cell(node("a", unschedulable=True), node("b"))
    assert verdicts(Unschedulable(), snapshot, pod("p")) == {"a": ["node(s) were unschedulable"], "b": []}
    tolerant = pod("p", tolerations=[{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}])
    assert verdicts(Unschedulable(), snapshot, tolerant) == {"a": [], "b": []}


@pytest.mark.parametrize(
    ("taint", "toleration", "passes"),
    [
        ("gpu=yes:NoSchedule", None, False),
        ("gpu=yes:NoExecute", None, False),
        ("gpu=yes:PreferNoSchedule", None, True),
        ("gpu=yes:NoSchedule", {"key": "gpu", "value": "yes"}, True),
        ("gpu=yes:NoSchedule", {"key": "gpu", "operator": "Equal", "value": "no"}, False),
        ("gpu=yes:NoSchedule", {"key": "gpu", "operator": "Exists"}, True),
        ("gpu=yes:NoSchedule", {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ("gpu=yes:NoSchedule", {"key": "cpu", "operator": "Exists"}, False),
        ("gpu=yes:NoSchedule", {"operator": "Exists"}, True),
        ("gpu=yes:NoExecute", {"operator": "Exists", "effect": "NoExecute"}, True),
        ("gpu=:NoSchedule", {"key": "gpu"}, True),
    ],
)
def test_taints_need_tolerations(taint: str, toleration: dict[str, str] | None, passes: bool) -> None:
    snapshot = cell(node("a", taints=[taint]), node("b"))
    found = verdicts(Taints(), snapshot, pod("p", tolerations=[toleration] if toleration else []))
    value = taint.partition("=")[2].partition(":")[0]
    assert found == {"a": [] if passes else [f"node(s) had untolerated taint {{gpu: {value}}}"], "b": []}


@pytest.mark.parametrize(("ready", "key"), [("False", "not-ready"), ("Unknown", "unreachable")])
def test_a_machine_that_is_not_ready_counts_as_tainted(ready: str, key: str) -> None:
    snapshot = cell(node("a", ready=ready))
    expected = [f"node(s) had untolerated taint {{node.kubernetes.io/{key}: }}"]
    assert verdicts(Taints(), snapshot, pod("p")) == {"a": expected}


@pytest.mark.parametrize(
    ("spec", "passing"),
    [
        ({"nodeSelector": {"zone": "1"}}, "ab"),
        ({"nodeSelector": {"zone": "1", "disk": "ssd"}}, "a"),
        ({"nodeSelector": {"zone": "9"}}, ""),
        ({"nodeSelector": {"nosuch": "1"}}, ""),
        (
            {"affinity": required({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1", "2"]}]})},
            "abc",
        ),
        ({"affinity": required({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["1"]}]})}, "cd"),
        ({"affinity": required({"matchExpressions": [{"key": "disk", "operator": "Exists"}]})}, "a"),
        ({"affinity": required({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]})}, "bcd"),
        ({"affinity": required({"matchExpressions": [{"key": "nosuch", "operator": "DoesNotExist"}]})}, "abcd"),
        ({"affinity": required({"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["1"]}]})}, "c"),
        ({"affinity": required({"matchExpressions": [{"key": "zone", "operator": "Lt", "values": ["2"]}]})}, "ab"),
        ({"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["d"]}]})}, "d"),
        (
            {"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["d"]}]})},
            "abc",
        ),
        (
            {
                "affinity": required(
                    {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["d"]}]},
                )
            },
            "ad",
        ),
        ({"affinity": required({})}, ""),
        (
            {
                "nodeSelector": {"zone": "1"},
                "affinity": required({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}),
            },
            "b",
        ),
    ],
)
def test_selectors_and_affinity(spec: dict[str, Any], passing: str) -> None:
    snapshot = cell(
        node("a", labels={"zone": "1", "disk": "ssd"}),
        node("b", labels={"zone": "1"}),
        node("c", labels={"zone": "2"}),
        node("d"),
    )
    found = verdicts(NodeAffinity(), snapshot, pod("p", **spec))
    assert "".join(name for name, reasons in found.items() if not reasons) == passing
    assert {reason for reasons in found.values() for reason in reasons} <= {AFFINITY}


@pytest.mark.parametrize(
    ("taken", "wanted", "clash"),
    [
        (("TCP", "", 80), ("TCP", "", 80), True),
        (("TCP", "", 80), ("TCP", "", 81), False),
        (("TCP", "", 80), ("UDP", "", 80), False),
        (("TCP", "10.0.0.1", 80), ("TCP", "10.0.0.2", 80), False),
        (("TCP", "10.0.0.1", 80), ("TCP", "10.0.0.1", 80), True),
        (("TCP", "10.0.0.1", 80), ("TCP", "", 80), True),
        (("TCP", "0.0.0.0", 80), ("TCP", "10.0.0.1", 80), True),
    ],
)
def test_host_ports_clash(taken: tuple[str, str, int], wanted: tuple[str, str, int], clash: bool) -> None:
    def claiming(name: str, port: tuple[str, str, int], where: str = "") -> Obj:
        claimed = pod(name, node_name=where)
        claimed["spec"]["containers"][0]["ports"] = [
            {"containerPort": 1, "protocol": port[0], "hostIP": port[1], "hostPort": port[2]}
        ]
        return claimed

    snapshot = cell(node("a"), node("b"), placed=(claiming("x", taken, "a"),))
    assert verdicts(Ports(), snapshot, claiming("p", wanted)) == {"a": [PORTS] if clash else [], "b": []}
    snapshot.remove(Key("default", "x"))
    assert verdicts(Ports(), snapshot, claiming("p", wanted))["a"] == []
    assert snapshot.ports == {}

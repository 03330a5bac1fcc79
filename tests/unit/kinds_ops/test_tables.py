from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.base.clock import rfc3339
from corral.kinds.kind import Column, Kind
from corral.kinds.tables import human_duration, table
from corral.kinds.types import Obj, Resource

NOW = datetime(2030, 1, 2, 12, 0, 0, tzinfo=UTC)


class NoStrategy:
    def prepare_create(self, obj: Obj) -> None: ...

    def prepare_update(self, obj: Obj, old: Obj) -> None: ...

    def prepare_status(self, obj: Obj, old: Obj) -> None: ...

    def validate(self, obj: Obj, old: Obj | None) -> list[Any]:
        return []


def kind(group: str, plural: str, **more: Any) -> Kind:
    return Kind(Resource(group, "v1", plural, plural.title(), True), plural, "List", NoStrategy(), **more)


def ago(seconds: float) -> str:
    return rfc3339(NOW - timedelta(seconds=seconds))


def an_object(**more: Any) -> Obj:
    metadata = {"name": "x", "namespace": "ns", "creationTimestamp": ago(300)} | more.pop("metadata", {})
    return {"metadata": metadata, **more}


def row(group: str, plural: str, obj: Obj) -> dict[str, Any]:
    """The one row of a table, by column name."""
    made = table(kind(group, plural), [obj], now=NOW)
    names = [column["name"] for column in made["columnDefinitions"]]
    cells = made["rows"][0]["cells"]
    assert len(names) == len(cells)
    return dict(zip(names, cells, strict=True))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (10860, "3h1m"),
        (28799, "7h59m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (176400, "2d1h"),
        (691200, "8d"),
        (2 * 365 * 86400 - 1, "729d"),
        (2 * 365 * 86400, "2y"),
        (2 * 365 * 86400 + 86400, "2y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_human_duration(seconds: float, said: str) -> None:
    assert human_duration(seconds) == said


def a_pod(*states: Obj, phase: str = "Running", **more: Any) -> Obj:
    statuses = [{"name": str(i), "restartCount": 0, **state} for i, state in enumerate(states)]
    status = {"phase": phase, "containerStatuses": statuses, **more.pop("status", {})}
    spec = {"containers": [{"name": str(i)} for i in range(len(states) or 1)], **more.pop("spec", {})}
    return an_object(spec=spec, status=status, **more)


RUNNING: Obj = {"ready": True, "state": {"running": {}}}
DONE: Obj = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
READY: Obj = {"type": "Ready", "status": "True"}


def waiting(reason: str) -> Obj:
    return {"state": {"waiting": {"reason": reason}}}


def ended(code: int, reason: str = "", signal: int = 0) -> Obj:
    terminated = {"exitCode": code} | ({"reason": reason} if reason else {}) | ({"signal": signal} if signal else {})
    return {"state": {"terminated": terminated}}


SIDECAR: Obj = {"name": "side", "restartPolicy": "Always"}


@pytest.mark.parametrize(
    ("pod", "ready", "status"),
    [
        (a_pod(phase="Pending"), "0/1", "Pending"),
        (a_pod(RUNNING), "1/1", "Running"),
        (a_pod(RUNNING, waiting("CrashLoopBackOff")), "1/2", "CrashLoopBackOff"),
        (a_pod(waiting("ContainerCreating"), phase="Pending"), "0/1", "ContainerCreating"),
        (a_pod(waiting("ImagePullBackOff"), phase="Pending"), "0/1", "ImagePullBackOff"),
        (a_pod(ended(137, "OOMKilled"), phase="Failed"), "0/1", "OOMKilled"),
        (a_pod(ended(1, "Error"), phase="Failed"), "0/1", "Error"),
        (a_pod(ended(3), phase="Failed"), "0/1", "ExitCode:3"),
        (a_pod(ended(137, signal=9), phase="Failed"), "0/1", "Signal:9"),
        (a_pod(DONE, phase="Succeeded"), "0/1", "Completed"),
        (a_pod(DONE, RUNNING), "1/2", "NotReady"),
        (a_pod(DONE, RUNNING, status={"conditions": [READY]}), "1/2", "Running"),
        (a_pod(DONE, ended(1, "Error"), phase="Failed"), "0/2", "Error"),
        (a_pod(RUNNING, metadata={"deletionTimestamp": ago(1)}), "1/1", "Terminating"),
        (a_pod(DONE, phase="Succeeded", metadata={"deletionTimestamp": ago(1)}), "0/1", "Completed"),
        (a_pod(RUNNING, status={"reason": "NodeLost"}, metadata={"deletionTimestamp": ago(1)}), "1/1", "Unknown"),
        (a_pod(phase="Failed", status={"reason": "Evicted"}), "0/1", "Evicted"),
        (
            a_pod(
                phase="Pending",
                status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            ),
            "0/1",
            "SchedulingGated",
        ),
        (
            a_pod(
                waiting("PodInitializing"),
                phase="Pending",
                spec={"initContainers": [{"name": "a"}, {"name": "b"}]},
                status={"initContainerStatuses": [{"name": "a", **DONE}, {"name": "b", "state": {"running": {}}}]},
            ),
            "0/1",
            "Init:1/2",
        ),
        (
            a_pod(
                phase="Pending",
                spec={"initContainers": [{"name": "a"}]},
                status={"initContainerStatuses": [{"name": "a", **waiting("CrashLoopBackOff")}]},
            ),
            "0/1",
            "Init:CrashLoopBackOff",
        ),
        (
            a_pod(
                phase="Failed",
                spec={"initContainers": [{"name": "a"}]},
                status={"initContainerStatuses": [{"name": "a", **ended(2)}]},
            ),
            "0/1",
            "Init:ExitCode:2",
        ),
        (
            a_pod(
                RUNNING,
                spec={"initContainers": [SIDECAR]},
                status={"initContainerStatuses": [{"name": "side", "started": True, **RUNNING}]},
            ),
            "2/2",
            "Running",
        ),
    ],
)
def test_pod_status(pod: Obj, ready: str, status: str) -> None:
    cells = row("", "pods", pod)
    assert (cells["Ready"], cells["Status"]) == (ready, status)


def test_pod_restarts_and_wide_columns() -> None:
    restarted = {"restartCount": 3, "lastState": {"terminated": {"finishedAt": ago(302)}}, **RUNNING}
    pod = a_pod(
        restarted,
        spec={"nodeName": "m1", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
        status={"podIPs": [{"ip": "10.0.0.7"}], "conditions": [{"type": "a", "status": "True"}]},
    )
    assert row("", "pods", pod) == {
        "Name": "x",
        "Ready": "1/1",
        "Status": "Running",
        "Restarts": "3 (5m2s ago)",
        "Age": "5m",
        "IP": "10.0.0.7",
        "Node": "m1",
        "Nominated Node": "<none>",
        "Readiness Gates": "1/2",
    }
    bare = row("", "pods", an_object())
    assert (bare["Restarts"], bare["IP"], bare["Node"], bare["Readiness Gates"]) == ("0", "<none>", "<none>", "<none>")


def test_finished_pods_have_a_row_condition() -> None:
    made = table(kind("", "pods"), [a_pod(DONE, phase="Succeeded"), a_pod(RUNNING)], now=NOW)
    assert made["rows"][0]["conditions"][0] == {
        "type": "Completed",
        "status": "True",
        "reason": "Succeeded",
        "message": "The pod has completed successfully.",
    }
    assert "conditions" not in made["rows"][1]


TEMPLATE: Obj = {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}
SELECTOR: Obj = {"matchLabels": {"z": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}


@pytest.mark.parametrize(
    ("group", "plural", "obj", "cells"),
    [
        (
            "apps",
            "deployments",
            an_object(
                spec={"replicas": 3, "template": TEMPLATE, "selector": SELECTOR},
                status={"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            ),
            ["x", "1/3", 2, 1, "5m", "a,b", "i,j", "a in (x,y),z=1"],
        ),
        (
            "apps",
            "replicasets",
            an_object(spec={"replicas": 3}, status={"replicas": 2}),
            ["x", 3, 2, 0, "5m", "", "", "<none>"],
        ),
        (
            "apps",
            "statefulsets",
            an_object(spec={"replicas": 2, "template": TEMPLATE}),
            ["x", "0/2", "5m", "a,b", "i,j"],
        ),
        (
            "apps",
            "daemonsets",
            an_object(status={"desiredNumberScheduled": 2, "numberReady": 1}),
            ["x", 2, 0, 1, 0, 0, "<none>", "5m", "", "", "<none>"],
        ),
        (
            "batch",
            "cronjobs",
            an_object(spec={"schedule": "* * * * *", "suspend": False}, status={"lastScheduleTime": ago(10)}),
            ["x", "* * * * *", "<none>", "False", 0, "10s", "5m", "", "", "<none>"],
        ),
        (
            "apps",
            "controllerrevisions",
            an_object(
                revision=2,
                metadata={
                    "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": True}]
                },
            ),
            ["x", "daemonset.apps/d", 2, "5m"],
        ),
        (
            "",
            "nodes",
            an_object(
                metadata={"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "b"}},
                spec={"unschedulable": True},
                status={
                    "conditions": [READY],
                    "nodeInfo": {"kubeletVersion": "v1.36.0"},
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                },
            ),
            [
                "x",
                "Ready,SchedulingDisabled",
                "b,control-plane",
                "5m",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>",
            ],
        ),
        ("", "namespaces", an_object(status={"phase": "Active"}), ["x", "Active", "5m"]),
        ("", "configmaps", an_object(data={"a": "1"}, binaryData={"b": ""}), ["x", 2, "5m"]),
        ("", "secrets", an_object(type="Opaque", data={"a": "1"}), ["x", "Opaque", 1, "5m"]),
        ("", "serviceaccounts", an_object(), ["x", "5m"]),
        (
            "",
            "services",
            an_object(
                spec={
                    "type": "LoadBalancer",
                    "clusterIPs": ["10.1.1.1"],
                    "ports": [{"port": 80, "nodePort": 30000}, {"port": 53, "protocol": "UDP"}],
                    "selector": {"app": "web"},
                }
            ),
            ["x", "LoadBalancer", "10.1.1.1", "<pending>", "80:30000/TCP,53/UDP", "5m", "app=web"],
        ),
        (
            "",
            "endpoints",
            an_object(
                subsets=[
                    {"addresses": [{"ip": f"10.0.0.{i}"} for i in range(4)] + [{"ip": "::1"}], "ports": [{"port": 80}]}
                ]
            ),
            ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...", "5m"],
        ),
        ("", "endpoints", an_object(), ["x", "<none>", "5m"]),
        (
            "discovery.k8s.io",
            "endpointslices",
            an_object(addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"]}], ports=[{"port": 80}, {"name": "n"}]),
            ["x", "IPv4", "80,n", "10.0.0.1", "5m"],
        ),
        (
            "discovery.k8s.io",
            "endpointslices",
            an_object(addressType="IPv4"),
            ["x", "IPv4", "<unset>", "<unset>", "5m"],
        ),
        (
            "networking.k8s.io",
            "ingresses",
            an_object(
                spec={"rules": [{"host": h} for h in "abcde"], "tls": [{}]},
                status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}},
            ),
            ["x", "<none>", "a,b,c + 2 more...", "1.2.3.4,h", "80, 443", "5m"],
        ),
        ("networking.k8s.io", "networkpolicies", an_object(spec={"podSelector": {}}), ["x", "<none>", "5m"]),
        (
            "",
            "persistentvolumes",
            an_object(
                spec={
                    "capacity": {"storage": "1024Mi"},
                    "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": "ns", "name": "c"},
                },
                status={"phase": "Bound"},
            ),
            ["x", "1Gi", "RWO,RWX", "Retain", "Bound", "ns/c", "", "<unset>", "", "5m", "<unset>"],
        ),
        (
            "",
            "persistentvolumeclaims",
            an_object(spec={"storageClassName": "fast"}, status={"phase": "Pending", "capacity": {"storage": "1Gi"}}),
            ["x", "Pending", "", "", "", "fast", "<unset>", "5m", "<unset>"],
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            an_object(
                provisioner="p", metadata={"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
            ),
            ["x (default)", "p", "Delete", "Immediate", False, "5m"],
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            an_object(
                roleRef={"kind": "Role", "name": "r"},
                subjects=[
                    {"kind": "User", "name": "u"},
                    {"kind": "Group", "name": "g"},
                    {"kind": "ServiceAccount", "name": "s", "namespace": "ns"},
                ],
            ),
            ["x", "Role/r", "5m", "u", "g", "ns/s"],
        ),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            an_object(
                spec={"signerName": "s", "username": "u", "expirationSeconds": 3600},
                status={"conditions": [{"type": "Approved"}], "certificate": "abc"},
            ),
            ["x", "5m", "s", "u", "60m", "Approved,Issued"],
        ),
        (
            "policy",
            "poddisruptionbudgets",
            an_object(spec={"minAvailable": "50%"}, status={"disruptionsAllowed": 1}),
            ["x", "50%", "N/A", 1, "5m"],
        ),
        (
            "scheduling.k8s.io",
            "podgroups",
            an_object(
                spec={
                    "schedulingPolicy": {"gang": {"minCount": 2}},
                    "podGroupTemplateRef": {"workload": {"workloadName": "w", "podGroupTemplateName": "t"}},
                },
                status={"conditions": [{"type": "PodGroupScheduled", "status": "False", "reason": "Unschedulable"}]},
            ),
            ["x", "Gang", "w", "Unschedulable", "5m"],
        ),
        (
            "scheduling.k8s.io",
            "podgroups",
            an_object(
                spec={"schedulingPolicy": {"basic": {}}},
                status={"conditions": [{"type": "PodGroupScheduled", "status": "True", "reason": "Scheduled"}]},
            ),
            ["x", "Basic", "<none>", "Scheduled", "5m"],
        ),
        (
            "",
            "resourcequotas",
            an_object(status={"hard": {"limits.cpu": "2", "pods": "10", "cpu": "1000m"}, "used": {"pods": "3"}}),
            ["x", "cpu: 0/1, pods: 3/10", "limits.cpu: 0/2", "5m"],
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            an_object(
                spec={
                    "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                    "maxReplicas": 5,
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
                        {"type": "Resource", "resource": {"name": "memory", "target": {"averageValue": "1Gi"}}},
                        {"type": "External", "external": {"target": {"value": "5"}}},
                    ],
                },
                status={
                    "currentReplicas": 2,
                    "currentMetrics": [{"resource": {"current": {"averageUtilization": 40}}}],
                },
            ),
            ["x", "Deployment/d", "cpu: 40%/80%, memory: <unknown>/1Gi + 1 more...", "<unset>", 5, 2, "5m"],
        ),
        ("scheduling.k8s.io", "priorityclasses", an_object(value=5), ["x", 5, False, "5m", ""]),
        ("coordination.k8s.io", "leases", an_object(spec={"holderIdentity": "h"}), ["x", "h", "5m"]),
        ("apiregistration.k8s.io", "apiservices", an_object(), ["x", "Local", "Unknown", "5m"]),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", an_object(webhooks=[{}]), ["x", 1, "5m"]),
        ("rbac.authorization.k8s.io", "roles", an_object(), ["x", ago(300)]),
        ("apiextensions.k8s.io", "customresourcedefinitions", an_object(), ["x", ago(300)]),
    ],
)
def test_cells(group: str, plural: str, obj: Obj, cells: list[Any]) -> None:
    assert list(row(group, plural, obj).values()) == cells


@pytest.mark.parametrize(
    ("job", "status", "completions", "duration"),
    [
        (an_object(spec={"completions": 1, "parallelism": 1}), "Running", "0/1", ""),
        (
            an_object(
                spec={"completions": 2},
                status={
                    "succeeded": 2,
                    "startTime": ago(100),
                    "completionTime": ago(40),
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            ),
            "Complete",
            "2/2",
            "60s",
        ),
        (an_object(spec={"parallelism": 3}, status={"startTime": ago(30)}), "Running", "0/1 of 3", "30s"),
        (an_object(status={"conditions": [{"type": "Suspended", "status": "True"}]}), "Suspended", "0/1", ""),
        (an_object(metadata={"deletionTimestamp": ago(1)}), "Terminating", "0/1", ""),
    ],
)
def test_jobs(job: Obj, status: str, completions: str, duration: str) -> None:
    cells = row("batch", "jobs", job)
    assert (cells["Status"], cells["Completions"], cells["Duration"]) == (status, completions, duration)


def test_events() -> None:
    event = an_object(
        type="Warning",
        reason="Failed",
        message="no\n",
        involvedObject={"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        source={"component": "kubelet", "host": "m1"},
        firstTimestamp=ago(600),
        lastTimestamp=ago(60),
        count=4,
    )
    expected = ["60s", "Warning", "Failed", "pod/p", "spec.containers{a}", "kubelet, m1", "no", "10m", 4, "x"]
    assert list(row("", "events", event).values()) == expected
    series = an_object(eventTime=ago(30), series={"count": 7, "lastObservedTime": ago(5)}, reportingComponent="c")
    cells = row("", "events", series)
    assert (cells["Last Seen"], cells["First Seen"], cells["Count"], cells["Source"]) == ("5s", "30s", 7, "c")
    modern = an_object(note="n", regarding={"kind": "Node", "name": "m"}, reportingController="c", eventTime=ago(9))
    cells = row("events.k8s.io", "events", modern)
    assert (cells["Object"], cells["Message"], cells["Last Seen"], cells["Source"]) == ("node/m", "n", "9s", "c")


def test_custom_columns() -> None:
    columns = (
        Column("Replicas", type="integer", path=".spec.replicas"),
        Column("Ready", path='.status.conditions[?(@.type=="Ready")].status'),
        Column("Since", type="date", path=".status.since", priority=1),
        Column("Ratio", type="number", path=".spec.ratio"),
        Column("On", type="boolean", path=".spec.on"),
        Column("Raw", path=".spec.raw"),
        Column("Gone", type="integer", path=".spec.gone"),
    )
    obj = an_object(
        spec={"replicas": 3, "ratio": 1, "on": True, "raw": {"a": [1]}},
        status={"conditions": [{"type": "Ready", "status": "True"}], "since": ago(60)},
    )
    made = table(kind("example.com", "widgets", custom=True, columns=columns), [obj], now=NOW)
    assert [column["name"] for column in made["columnDefinitions"]] == ["Name", *(column.name for column in columns)]
    assert made["rows"][0]["cells"] == ["x", 3, "True", "60s", 1.0, True, '{"a":[1]}', None]
    plain = table(kind("example.com", "widgets", custom=True), [obj], now=NOW)
    assert plain["rows"][0]["cells"] == ["x", "5m"]


def test_rows_carry_what_was_asked_for() -> None:
    obj = an_object(data={})
    asked = kind("", "configmaps")
    made = table(asked, [obj], now=NOW, list_meta={"resourceVersion": "7", "continue": "c"})
    assert (made["kind"], made["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert made["metadata"] == {"resourceVersion": "7", "continue": "c"}
    assert made["columnDefinitions"][0]["format"] == "name"
    assert made["rows"][0]["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
    assert table(asked, [obj], now=NOW, include="Object")["rows"][0]["object"] == obj
    assert table(asked, [obj], now=NOW, include="None")["rows"][0]["object"] is None
    revised = an_object(metadata={"resourceVersion": "5"})
    assert table(asked, [revised], now=NOW)["metadata"] == {"resourceVersion": "5"}
    assert table(asked, [], now=NOW)["rows"] == []


def test_every_printer_copes_with_a_bare_object() -> None:
    from corral.kinds.tables import _PRINTERS

    for (group, plural), _ in _PRINTERS.items():
        row(group, plural, {"metadata": {"name": "x"}})

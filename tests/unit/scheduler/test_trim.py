"""What is kept of Nodes and pods says the same as the whole."""

from copy import deepcopy

from corral.kinds.types import Obj
from corral.scheduler.machine import read_allocatable, read_machine
from corral.scheduler.peers import peers_fingerprint
from corral.scheduler.podclass import fingerprint
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.trim import trim_node, trim_pod
from corral.testing.scheduling import node, pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}


def a_full_pod() -> Obj:
    full = pod(
        "p",
        cpu="1",
        host_ports=[80],
        node_name="a",
        priority=3,
        schedulerName="mine",
        schedulingGates=[{"name": "g"}],
        nodeSelector={"zone": "1"},
        tolerations=[{"operator": "Exists"}],
        overhead={"cpu": "10m"},
        hostNetwork=True,
        labels={"app": "a"},
        preemptionPolicy="Never",
        affinity={"nodeAffinity": {}, "podAntiAffinity": {REQUIRED: [TERM]}},
        topologySpreadConstraints=[TERM | {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        initContainers=[{"name": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}}],
        volumes=[
            {"name": "large"},
            {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"large": "x"}}}},
        ],
    )
    full["metadata"] |= {"managedFields": [{}], "annotations": {"long": "x" * 1000}, "resourceVersion": "7"}
    full["status"] = {
        "phase": "Running",
        "nominatedNodeName": "a",
        "conditions": [{"type": "Ready"}, {"type": "PodScheduled", "status": "True"}],
    }
    return full


def test_a_trimmed_pod_is_placed_like_the_whole() -> None:
    full = a_full_pod()
    before = deepcopy(full)
    small = trim_pod(full)
    assert full == before
    assert fingerprint(small, "a") == fingerprint(full, "a")
    assert peers_fingerprint(small) == peers_fingerprint(full)
    snapshot = Snapshot()
    assert snapshot.classify(small) is snapshot.classify(full)
    for field in ("priority", "schedulerName", "schedulingGates", "nodeName"):
        assert small["spec"][field] == full["spec"][field]
    expected = {"name": "p", "namespace": "default", "uid": "uid-p", "resourceVersion": "7", "labels": {"app": "a"}}
    assert small["metadata"] == expected
    assert small["status"] == full["status"] | {"conditions": [{"type": "PodScheduled", "status": "True"}]}


def test_a_trimmed_node_is_the_same_machine() -> None:
    full = node("a", labels={"zone": "1"}, taints=["a=1:NoSchedule"], unschedulable=True, ready="False")
    full["status"] |= {"images": [{"names": ["large"]}], "nodeInfo": {"kernelVersion": "6"}}
    small = trim_node(full)
    assert read_machine(small) == read_machine(full)
    assert read_allocatable(small) == read_allocatable(full)
    # Machines that have the same image share what is known of it.
    assert small["status"]["images"] == [{"names": ["large"], "sizeBytes": 0}]
    assert small["status"]["images"][0] is trim_node(full)["status"]["images"][0]
    assert "nodeInfo" not in small["status"]

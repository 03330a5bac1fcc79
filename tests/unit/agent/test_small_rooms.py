"""Admission, images, garbage collection, the Node, status patches."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.agent import gc
from corral.agent.admission import admit, matches_node
from corral.agent.gc import ENDED_SANDBOXES, Seen, unused, waste
from corral.agent.images import auths_in, pull_policy, registry_of
from corral.agent.machine import Machine, allocatable
from corral.agent.node import NodeSpec, announcement, conditions, labels_of, new_node, patch, significant, status
from corral.agent.problems.api import Finding
from corral.agent.runtime.api import Container, ContainerState, Image, ImageAuth, Sandbox
from corral.agent.status_writer import difference
from corral.kinds.types import Obj

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"kubernetes.io/hostname": "m1", "disk": "ssd", "cores": "8"}


def pod(name: str = "p", cpu: str = "", ports: tuple[int, ...] = (), **spec: Any) -> Obj:
    container: Obj = {"name": "c", "ports": [{"containerPort": port, "hostPort": port} for port in ports]}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"containers": [container], **spec}}


@pytest.mark.parametrize(
    ("subject", "others", "reason"),
    [
        (pod(), [], None),
        (pod(cpu="2"), [pod("o", cpu="2")], None),
        (pod(cpu="3"), [pod("o", cpu="2")], "OutOfcpu"),
        (pod(), [pod(str(index)) for index in range(3)], "OutOfpods"),
        (pod(ports=(80,)), [pod("o", ports=(80,))], "NodePorts"),
        (pod(ports=(80,)), [pod("o", ports=(81,))], None),
        (pod(nodeSelector={"disk": "hdd"}), [], "NodeAffinity"),
        (pod(os={"name": "windows"}), [], "PodOSNotSupported"),
    ],
)
def test_admission(subject: Obj, others: list[Obj], reason: str | None) -> None:
    refusal = admit(subject, others, LABELS, {"cpu": 4000, "pods": 3})
    assert (refusal.reason if refusal else None) == reason


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}, True),
        ({"key": "disk", "operator": "NotIn", "values": ["ssd"]}, False),
        ({"key": "gpu", "operator": "NotIn", "values": ["x"]}, True),
        ({"key": "gpu", "operator": "Exists"}, False),
        ({"key": "gpu", "operator": "DoesNotExist"}, True),
        ({"key": "cores", "operator": "Gt", "values": ["4"]}, True),
        ({"key": "cores", "operator": "Lt", "values": ["4"]}, False),
        ({"key": "disk", "operator": "Gt", "values": ["4"]}, False),
        ({"key": "disk", "operator": "Strange", "values": ["4"]}, False),
    ],
)
def test_node_affinity(expression: Obj, fits: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    assert matches_node(pod(affinity=affinity), LABELS) == fits


@pytest.mark.parametrize(
    ("reference", "policy", "registry"),
    [
        ("nginx", "Always", "docker.io"),
        ("nginx:latest", "Always", "docker.io"),
        ("nginx:1.25", "IfNotPresent", "docker.io"),
        ("localhost:5000/app", "Always", "localhost:5000"),
        ("registry.example.com/a/b:2", "IfNotPresent", "registry.example.com"),
        ("library/app@sha256:00", "IfNotPresent", "docker.io"),
    ],
)
def test_references(reference: str, policy: str, registry: str) -> None:
    assert pull_policy({"image": reference}) == policy
    assert registry_of(reference) == registry


def test_credentials_are_found_by_registry_and_never_shown() -> None:
    auths = {
        "https://index.docker.io/v1/": {"auth": base64.b64encode(b"me:pw:x").decode()},
        "other.example.com": {"username": "u", "password": "p"},
    }
    packed = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
    secret = {"data": {".dockerconfigjson": packed}}
    assert auths_in(secret, "docker.io") == [ImageAuth("me", "pw:x")]
    assert auths_in(secret, "other.example.com") == [ImageAuth("u", "p")]
    assert "pw" not in repr(auths_in(secret, "docker.io"))
    assert auths_in({"data": {".dockerconfigjson": "bm8="}}, "docker.io") == []


def box(uid: str, age: int = 0) -> Sandbox:
    return Sandbox(f"{uid}-0", uid, "d", uid, True, (), NOW - timedelta(seconds=age))


def run(uid: str, name: str, attempt: int, state: ContainerState = ContainerState.EXITED) -> Container:
    return Container(f"{uid}{name}{attempt}", f"{uid}-0", name, attempt, "img", state, NOW)


def test_only_the_newest_dead_container_of_a_name_is_kept() -> None:
    containers = [run("a", "x", 0), run("a", "x", 1), run("a", "x", 2, ContainerState.RUNNING), run("a", "y", 0)]
    found = waste(Seen([box("a")], containers, frozenset({"a"})))
    assert [container.id for container in found.containers] == ["ax0"]
    assert found.sandboxes == []


def test_orphans_and_long_ended_sandboxes_go() -> None:
    many = [f"p{index:03}" for index in range(ENDED_SANDBOXES + 2)]
    ended = {uid: NOW + timedelta(seconds=index) for index, uid in enumerate(many)}
    found = waste(Seen([box(uid) for uid in (*many, "orphan")], [], frozenset(many), ended))
    assert set(found.sandboxes) == {"orphan-0", "p000-0", "p001-0"}


def test_unused_images_go_largest_first_and_host_stays() -> None:
    images = [
        Image("host", ("host",), 9, {}),
        Image("a", ("a:1",), 1, {}),
        Image("b", ("b:1",), 5, {}),
        Image("c", ("c:1",), 7, {}),
    ]
    assert [image.id for image in unused(images, {"c:1"})] == ["b", "a"]
    assert gc.LOW < gc.HIGH


MACHINE = Machine(
    "m1", ("192.0.2.1",), {"cpu": 2000, "memory": 1 << 30, "pods": 250}, {"cpu": 1900}, {"architecture": "amd64"}
)
WELL = Finding("DiskPressure", False, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
LATER = NOW + timedelta(minutes=1)
SPEC = NodeSpec({"disk": "ssd"}, [{"key": "k", "effect": "NoSchedule"}], 10250, "corral+fake://1")


def test_the_node() -> None:
    node = new_node(MACHINE, SPEC)
    assert node["metadata"]["labels"] == labels_of(MACHINE, {"disk": "ssd"})
    assert node["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
    assert node["spec"]["taints"]
    told = status(MACHINE, SPEC, [WELL], [Image("i", ("x:1",), 5, {})], {}, NOW)
    assert told["capacity"] == {"cpu": "2", "memory": "1Gi", "pods": "250"}
    assert told["images"] == [{"names": ["x:1"], "sizeBytes": 5}]
    assert told["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.1"}


def test_conditions_are_what_was_found_and_ready() -> None:
    down = Finding("RuntimeUnhealthy", True, "RuntimeDoesNotAnswer", "container runtime is down: gone")
    blind = Finding("DiskErrors", None, "CannotTell", "Permission denied")
    told = {one["type"]: one for one in conditions([WELL, blind], {}, NOW)}
    assert {type_: one["status"] for type_, one in told.items()} == {
        "DiskPressure": "False",
        "DiskErrors": "Unknown",
        "Ready": "True",
    }
    later = {one["type"]: one for one in conditions([WELL, down], {"conditions": [*told.values()]}, LATER)}
    assert (later["Ready"]["status"], later["Ready"]["message"]) == ("False", down.message)
    assert later["Ready"]["lastTransitionTime"] == later["Ready"]["lastHeartbeatTime"]
    assert later["DiskPressure"]["lastTransitionTime"] == told["DiskPressure"]["lastTransitionTime"]


def test_conditions_of_others_are_left_alone() -> None:
    told = patch(status(MACHINE, SPEC, [WELL], [], {}, NOW))
    assert {one["type"] for one in told["status"]["conditions"]} == {"DiskPressure", "Ready"}
    assert told["status"]["addresses"][-1] == {"$patch": "replace"}


@pytest.mark.parametrize(
    ("before", "now", "event"),
    [
        (None, False, None),
        (None, True, ("Warning", "NodeHasDiskPressure")),
        (False, True, ("Warning", "NodeHasDiskPressure")),
        (True, True, None),
        (True, None, None),
        (True, False, ("Normal", "NodeHasNoDiskPressure")),
        (False, None, None),
    ],
)
def test_trouble_is_announced_when_it_begins_and_ends(
    before: bool | None, now: bool | None, event: tuple[str, str] | None
) -> None:
    found = [Finding("DiskPressure", trouble, "R", "m") for trouble in (before, now)]
    told = announcement(found[0] if before is not None else None, found[1])
    assert (told and told[:2]) == event


def test_a_heartbeat_alone_is_not_significant() -> None:
    first = status(MACHINE, SPEC, [WELL], [], {}, NOW)
    later = status(MACHINE, SPEC, [WELL], [], first, LATER)
    assert first != later
    assert significant(first) == significant(later)


def test_reservations_and_overrides() -> None:
    capacity = {"cpu": 2000, "memory": 4 << 30, "ephemeral-storage": 100, "pods": 250}
    assert allocatable(capacity, {}) == {
        "cpu": 1900,
        "memory": (4 << 30) - (256 << 20),
        "ephemeral-storage": 90,
        "pods": 250,
    }
    assert allocatable(capacity, {"cpu": 2000})["cpu"] == 2000


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({"phase": "Running"}, {"phase": "Running"}, {}),
        ({"phase": "Pending", "reason": "x"}, {"phase": "Running"}, {"phase": "Running", "reason": None}),
        (
            {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False", "reason": "r"}]},
            {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]},
            {"conditions": [{"type": "B", "status": "True", "reason": None}]},
        ),
        ({"podIPs": [{"ip": "1"}]}, {"podIPs": [{"ip": "2"}]}, {"podIPs": [{"$patch": "replace"}, {"ip": "2"}]}),
    ],
)
def test_status_patches_carry_what_changed(old: Obj, new: Obj, patch: Obj) -> None:
    assert difference(old, new) == patch

"""A scenario from API objects: workloads that stand for pods, priorities, nothing of nobody's business."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from corral.apiserver.auth.bootstrap.basics import basics
from corral.base.errors import CorralError
from corral.kinds.types import Obj, key_of
from corral.scheduler.simulator import manifests
from corral.scheduler.simulator.bands import BANDS, PRIORITIES, band
from corral.scheduler.simulator.scenario import Scenario, workload
from corral.testing.scheduling import node, pod
from corral.testing.storage import claim, storage_class, volume


def read(*objects: Obj) -> Scenario:
    return manifests.read((obj, "file.yaml") for obj in objects)


def names(scenario: Scenario) -> list[str]:
    return [pod["metadata"]["name"] for pod in scenario.pods]


def making(kind: str, name: str, *, api: str = "apps/v1", owner: Obj | None = None, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    metadata: Obj = {"name": name, **({"ownerReferences": [owner]} if owner else {})}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": {"template": template, **spec}}


def made_by(kind: str, name: str, one: Obj) -> Obj:
    one["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": kind, "name": name, "controller": True}]
    return one


def test_workloads_stand_for_the_pods_they_want() -> None:
    scenario = read(
        making("Deployment", "web", replicas=2),
        making("StatefulSet", "db", replicas=2, serviceName="db"),
        making("Job", "sum", api="batch/v1", parallelism=5, completions=2),
        making("Job", "later", api="batch/v1", suspend=True),
        making("DaemonSet", "log"),
        node("a"),
        node("b"),
    )
    assert sorted(names(scenario)) == ["db-0", "db-1", "log-a", "log-b", "sum-0", "sum-1", "web-0", "web-1"]
    assert {workload(pod) for pod in scenario.pods} == {"db", "log", "sum", "web"}


def test_pods_that_are_there_already_are_not_wanted_again() -> None:
    replica_set = making(
        "ReplicaSet", "web-1a", replicas=3, owner={"kind": "Deployment", "name": "web", "controller": True}
    )
    there = made_by("ReplicaSet", "web-1a", pod("web-1a-x", labels={"pod-template-hash": "1a"}))
    daemon = made_by("DaemonSet", "log", pod("log-x", node_name="a"))
    wanting = (making("Deployment", "web", replicas=3), replica_set, making("DaemonSet", "log"))
    scenario = read(*wanting, there, daemon, node("a"), node("b"))
    assert Counter(map(workload, scenario.pods)) == {"web": 3, "log": 2}


def test_priorities_come_from_the_objects_or_from_those_of_every_cell() -> None:
    gold = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "gold"}, "value": 7}
    given = read(gold, *(pod(name, priorityClassName=name) for name in ("gold", "corral-batch")), pod("p", priority=3))
    assert [one["spec"].get("priority") for one in given.pods] == [7, 100_000_000, 3]
    with pytest.raises(CorralError, match="names the PriorityClass 'silver', which is not there"):
        read(pod("p", priorityClassName="silver"))


def test_bands_and_classes_are_those_of_every_cell() -> None:
    made = {obj["metadata"]["name"]: obj["value"] for obj in basics() if obj["kind"] == "PriorityClass"}
    assert made == PRIORITIES
    assert [band(made[f"corral-{name}"]) for name in BANDS[1:]] == list(BANDS[1:])
    assert (band(-5), band(299_999_999), band(2_000_001_000)) == ("free", "production", "system")


def test_what_is_written_is_read_back_and_holds_no_secrets() -> None:
    secret = pod("p", node_name="a", cpu="1", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    secret["spec"]["containers"][0] |= {"env": [{"name": "PASSWORD", "value": "hunter2"}], "command": ["hunter2"]}
    secret["metadata"]["annotations"] = {"note": "hunter2"}
    disk = volume("v")
    disk["metadata"]["annotations"] = {"note": "hunter2"}
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "minAvailable": 1},
        "status": {"disruptionsAllowed": 2},
    }
    first = read(node("a"), secret, disk, claim("c"), storage_class("fast"), budget)
    written = json.dumps(manifests.write(first))
    assert "hunter2" not in written
    assert read(*json.loads(written)["items"]) == first
    assert {obj["kind"] for obj in first.context} >= {"PersistentVolume", "PersistentVolumeClaim", "StorageClass"}


def test_what_is_there_twice_is_as_it_is_the_second_time() -> None:
    scenario = read(node("a", cpu="1"), pod("p", cpu="1"), node("a", cpu="2"), pod("p", cpu="2"))
    assert [one["status"]["allocatable"]["cpu"] for one in scenario.machines] == ["2"]
    assert [one["spec"]["containers"][0]["resources"]["requests"]["cpu"] for one in scenario.pods] == ["2"]


def test_pods_come_in_the_order_of_arrival() -> None:
    pods = [pod("new"), pod("second"), pod("first")]
    pods[1]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:02Z"
    pods[2]["metadata"]["creationTimestamp"] = "2026-01-01T00:00:01Z"
    assert names(read(*pods)) == ["first", "second", "new"]


def test_other_kinds_are_left_out_and_that_is_said() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert read(config, config).notes == ["left out 2 ConfigMap: no machine, pod or known workload"]


@pytest.mark.parametrize(
    ("obj", "says"),
    [
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {}}, "file.yaml: a Pod has no name"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": "p"}, "file.yaml: a Pod has no name"),
        ({"apiVersion": "v2", "kind": "Pod", "metadata": {"name": "p"}}, "file.yaml: Pod 'p' has the apiVersion 'v2'"),
        ({"kind": "Node", "metadata": {"name": "n"}}, "file.yaml: Node 'n' has the apiVersion None"),
        (pod("p", containers="c"), "file.yaml: Pod 'p': .*spec.containers of type array"),
        (pod("p", cpu="1x"), r"file.yaml: Pod 'p': .*requests\[cpu\]: quantities must match"),
        (making("Deployment", "d", replicas="many"), "file.yaml: Deployment 'd': .*spec.replicas"),
    ],
)
def test_nonsense_is_refused_by_file_object_and_field(obj: Obj, says: str) -> None:
    with pytest.raises(CorralError, match=says) as caught:
        read(obj)
    assert caught.value.remedy


def test_a_saved_list_is_read_by_way_of_json(tmp_path: Path) -> None:
    from corral.cli import manifests as files

    path = tmp_path / "cell.json"
    path.write_text(json.dumps(manifests.write(read(node("a"), pod("p")))))
    assert [key_of(one.obj).name for one in files.read([str(path)])] == ["a", "p"]
    path.write_text("{kind: Node, apiVersion: v1, metadata: {name: flow}}")
    assert [key_of(one.obj).name for one in files.read([str(path)])] == ["flow"]


def test_a_job_that_names_a_group_of_its_own_is_given_it() -> None:
    job = making("Job", "train", api="batch/v1", parallelism=3, completions=3)
    job["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": "train"}
    (group,) = read(json.loads(json.dumps(job))).context
    assert group["spec"] == {"schedulingPolicy": {"gang": {"minCount": 3}}}
    theirs = json.loads(json.dumps(group))
    theirs["spec"]["schedulingPolicy"]["gang"]["minCount"] = 2
    assert [one["spec"]["schedulingPolicy"]["gang"]["minCount"] for one in read(job, theirs).context] == [3, 2]


def test_a_group_without_a_namespace_is_in_the_default_one() -> None:
    metadata = {"name": "g"}
    group = {"apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup", "metadata": metadata, "spec": {}}
    (read_back,) = read(group).context
    assert read_back["metadata"] == {"name": "g", "namespace": "default"}

"""Workloads become the pods that their controllers would make."""

from typing import Any

import pytest

from corral.kinds.types import Obj
from corral.scheduler import expand
from corral.testing.scheduling import node


def workload(kind: str, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    metadata = {"name": "x", "namespace": "default", "uid": "u"}
    return {"kind": kind, "apiVersion": "apps/v1", "metadata": metadata, "spec": {"template": template, **spec}}


def pods(obj: Obj, *nodes: Obj) -> list[tuple[str, Obj]]:
    found = list(expand.pods(obj, expand.model(obj), nodes))
    assert len(found) == expand.size(obj, nodes)
    return found


@pytest.mark.parametrize(
    ("obj", "count"),
    [
        (workload("Deployment", replicas=3), 3),
        (workload("ReplicationController"), 1),
        (workload("ReplicaSet", replicas=0), 0),
        (workload("Job", parallelism=5), 5),
        (workload("Job", parallelism=5, completions=2), 2),
        (workload("CronJob", jobTemplate={"spec": workload("Job", parallelism=2)["spec"]}), 2),
    ],
)
def test_how_many(obj: Obj, count: int) -> None:
    found = pods(obj)
    assert [name for name, _ in found] == [f"x-{number}" for number in range(count)]
    assert len({id(pod) for _, pod in found}) == min(count, 1), "pods that are alike are one object"


def test_new_pods_of_a_deployment_are_told_from_old_ones() -> None:
    ((_, pod),) = pods(workload("Deployment", replicas=1))
    assert pod["metadata"]["labels"] == {"app": "x", "pod-template-hash": "planned"}


def test_pods_of_a_stateful_set_have_identities_and_no_claims_yet() -> None:
    obj = workload("StatefulSet", replicas=2, ordinals={"start": 4}, volumeClaimTemplates=[{"metadata": {"name": "d"}}])
    mounts = [{"name": "d", "mountPath": "/d"}, {"name": "other", "mountPath": "/o"}]
    obj["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = mounts
    found = dict(pods(obj))
    assert list(found) == ["x-4", "x-5"]
    assert found["x-5"]["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "5"
    assert found["x-5"]["spec"]["containers"][0]["volumeMounts"] == mounts[1:]
    assert obj["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] == mounts


def test_indexes_of_a_job_are_labels() -> None:
    found = pods(workload("Job", parallelism=2, completions=2, completionMode="Indexed"))
    assert [pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] for _, pod in found] == ["0", "1"]


def test_daemons_are_pinned_to_the_machines_that_they_belong_on() -> None:
    obj = workload("DaemonSet")
    obj["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
    nodes = [
        node("a", labels={"disk": "ssd"}),
        node("b"),
        node("c", labels={"disk": "ssd"}, taints=["gpu=:NoSchedule"]),
        node("d", labels={"disk": "ssd"}, taints=["node.kubernetes.io/unschedulable=:NoSchedule"]),
    ]
    found = dict(pods(obj, *nodes))
    assert list(found) == ["x-a", "x-d"]
    required = found["x-a"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["a"]


def test_what_is_there_has_a_place_already() -> None:
    stateful, daemons, jobs = (
        workload("StatefulSet", replicas=3),
        workload("DaemonSet"),
        workload("Job", parallelism=3, completions=3),
    )
    second = {"metadata": {"name": "x-1"}, "spec": {"nodeName": "b"}}
    nodes = [node("a"), node("b")]
    for obj, left in ((stateful, ["x-0", "x-2"]), (daemons, ["x-a"]), (jobs, ["x-1", "x-2"])):
        wanted = expand.pods(obj, expand.model(obj), nodes)
        assert list(expand.missing(obj, wanted, [second])) == left

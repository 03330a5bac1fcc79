"""Queues with the real API in memory: Jobs and pods wait, are admitted, make way and end."""

from typing import Any

import pytest

from corral.client.client import Client
from corral.kinds import conditions
from corral.kinds.resources import (
    CLUSTER_QUEUES,
    DEPLOYMENTS,
    JOBS,
    LOCAL_QUEUES,
    NODES,
    PODS,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    WORKLOADS,
)
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource

from .conftest import Cell

V2 = "kueue.x-k8s.io/v1beta2"
QUEUE = "kueue.x-k8s.io/queue-name"


def named(kind: str, name: str, spec: Obj | None = None, **more: Any) -> Obj:
    metadata = {"name": name, **({"namespace": "default"} if kind == "LocalQueue" else {})}
    return {
        "apiVersion": V2,
        "kind": kind,
        "metadata": metadata,
        **({"spec": spec} if spec is not None else {}),
        **more,
    }


def quota(cpu: str, *, flavor: str = "default", **spec: Any) -> Obj:
    resources = [{"name": "cpu", "nominalQuota": cpu}]
    group = {"coveredResources": ["cpu"], "flavors": [{"name": flavor, "resources": resources}]}
    return {"namespaceSelector": {}, "resourceGroups": [group], **spec}


def template(cpu: str, labels: dict[str, str] | None = None, *, restart: str = "Never") -> Obj:
    container = {"name": "main", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}
    return {"metadata": {"labels": labels or {}}, "spec": {"restartPolicy": restart, "containers": [container]}}


def job(name: str, cpu: str = "1", *, labels: dict[str, str] | None = None, **spec: Any) -> Obj:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default", "labels": {QUEUE: "lq", **(labels or {})}},
        "spec": {"template": template(cpu), **spec},
    }


async def queues(client: Client, spec: Obj, flavor: Obj | None = None) -> None:
    """One flavor, one ClusterQueue `cq`, one LocalQueue `lq`."""
    await client.create(RESOURCE_FLAVORS, named("ResourceFlavor", "default", flavor or {}))
    await client.create(CLUSTER_QUEUES, named("ClusterQueue", "cq", spec))
    await client.create(LOCAL_QUEUES, named("LocalQueue", "lq", {"clusterQueue": "cq"}))


async def workload_of(cell: Cell, name: str, check: Any) -> Obj:
    """The Workload of the Job or pod `name`, once it fulfils `check`."""

    def found(items: list[Obj]) -> list[Obj]:
        return [
            item
            for item in items
            if any(owner["name"] == name for owner in item["metadata"]["ownerReferences"]) and check(item)
        ]

    return found(await cell.until_list(WORKLOADS, found))[0]


def is_true(kind: str) -> Any:
    return lambda obj: conditions.is_true(obj, kind)


async def until(cell: Cell, resource: Resource, name: str, check: Any) -> Obj:
    return await cell.until(resource, name, check, "" if not resource.namespaced else "default")


async def test_a_job_waits_is_admitted_runs_ends_and_the_next_one_follows(cell: Cell) -> None:
    await queues(cell.client, quota("1"))
    cell.kubelet.ends = lambda pod: "Succeeded" if pod["metadata"]["labels"].get("end") else ""
    first = await cell.client.create(JOBS, job("first"))
    assert first["spec"]["suspend"] is True
    await until(cell, JOBS, "first", lambda obj: not obj["spec"]["suspend"])
    admitted = await workload_of(cell, "first", is_true("Admitted"))
    assert admitted["status"]["admission"] == {
        "clusterQueue": "cq",
        "podSetAssignments": [
            {"name": "main", "count": 1, "flavors": {"cpu": "default"}, "resourceUsage": {"cpu": "1"}}
        ],
    }
    await cell.client.create(JOBS, job("second"))
    waiting = await workload_of(cell, "second", lambda obj: conditions.get(obj, "QuotaReserved"))
    said = conditions.get(waiting, "QuotaReserved")
    assert said is not None
    assert (said["status"], said["reason"]) == ("False", "Pending")
    assert said["message"] == (
        "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed"
    )
    full = await until(cell, CLUSTER_QUEUES, "cq", lambda obj: obj["status"].get("pendingWorkloads") == 1)
    assert full["status"]["admittedWorkloads"] == 1
    assert full["status"]["flavorsUsage"] == [
        {"name": "default", "resources": [{"name": "cpu", "total": "1", "borrowed": "0"}]}
    ]
    pods = await cell.until_list(PODS, lambda items: items and items[0]["status"].get("phase") == "Running")
    assert len(pods) == 1
    await cell.client.patch(PODS, pods[0]["metadata"]["name"], {"metadata": {"labels": {"end": "y"}}}, "default")
    done = await workload_of(cell, "first", is_true("Finished"))
    assert (conditions.get(done, "Finished") or {})["reason"] == "Succeeded"
    await workload_of(cell, "second", is_true("Admitted"))
    await until(cell, JOBS, "second", lambda obj: not obj["spec"]["suspend"])


async def test_the_flavors_labels_and_tolerations_reach_the_pods(cell: Cell) -> None:
    toleration = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}
    await queues(cell.client, quota("4"), {"nodeLabels": {"type": "spot"}, "tolerations": [toleration]})
    await cell.client.create(JOBS, job("work"))
    pods = await cell.until_list(PODS, lambda items: items)
    assert pods[0]["spec"]["nodeSelector"] == {"type": "spot"}
    assert toleration in pods[0]["spec"]["tolerations"]


async def test_nobody_can_start_a_waiting_job(cell: Cell) -> None:
    await queues(cell.client, quota("0"))
    await cell.client.create(JOBS, job("work", suspend=False))
    for _ in range(3):
        patched = await cell.client.patch(JOBS, "work", {"spec": {"suspend": False}}, "default")
        assert patched["spec"]["suspend"] is True
    await workload_of(cell, "work", lambda obj: conditions.get(obj, "QuotaReserved"))
    assert (await cell.client.list(PODS, "default"))["items"] == []


async def test_a_more_important_job_takes_the_place_of_another_which_comes_back(cell: Cell) -> None:
    await queues(cell.client, quota("1", preemption={"withinClusterQueue": "LowerPriority"}))
    await cell.client.create(WORKLOAD_PRIORITY_CLASSES, named("WorkloadPriorityClass", "urgent", value=1000))
    await cell.client.create(JOBS, job("low"))
    await cell.until_list(PODS, lambda items: items and items[0]["status"].get("phase") == "Running")
    await cell.client.create(JOBS, job("high", labels={"kueue.x-k8s.io/priority-class": "urgent"}))
    high = await workload_of(cell, "high", is_true("Admitted"))
    assert high["spec"]["priorityClassRef"]["name"] == "urgent"
    low = await workload_of(cell, "low", lambda obj: conditions.get(obj, "Requeued"))
    assert (conditions.get(low, "Preempted") or {})["reason"] == "InClusterQueue"
    assert high["metadata"]["uid"] in (conditions.get(low, "Preempted") or {})["message"]
    assert low["status"]["requeueState"]["count"] == 1
    assert "admission" not in low["status"]
    suspended = await until(cell, JOBS, "low", lambda obj: obj["spec"]["suspend"])
    assert not suspended["status"].get("active")
    cell.kubelet.ends = lambda pod: "Succeeded" if pod["metadata"]["labels"]["job-name"] == "high" else ""
    await cell.client.patch(JOBS, "high", {"metadata": {"labels": {"now": "end"}}}, "default")
    for pod in (await cell.client.list(PODS, "default", label_selector="job-name=high"))["items"]:
        await cell.client.patch(PODS, pod["metadata"]["name"], {"metadata": {"labels": {"now": "end"}}}, "default")
    await workload_of(cell, "low", lambda obj: conditions.is_true(obj, "Admitted"))
    again = await until(cell, JOBS, "low", lambda obj: not obj["spec"]["suspend"])
    assert not conditions.is_true(again, "Failed")


async def test_a_pod_waits_behind_its_gate(cell: Cell) -> None:
    await queues(cell.client, quota("1"), {"nodeLabels": {"zone": "a"}})
    pod = {"apiVersion": "v1", "kind": "Pod", **template("1", {QUEUE: "lq"})}
    for name in ("one", "two"):
        pod["metadata"] = {"name": name, "namespace": "default", "labels": {QUEUE: "lq"}}
        made = await cell.client.create(PODS, pod)
        assert made["spec"]["schedulingGates"] == [{"name": "kueue.x-k8s.io/admission"}]
        if name == "one":
            await until(cell, PODS, "one", lambda obj: not obj["spec"].get("schedulingGates"))
    await workload_of(cell, "two", lambda obj: conditions.get(obj, "QuotaReserved"))
    one, two = await cell.client.get(PODS, "one", "default"), await cell.client.get(PODS, "two", "default")
    assert one["spec"]["nodeSelector"] == {"zone": "a"}
    assert two["spec"]["schedulingGates"]
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.patch(PODS, "one", {"metadata": {"labels": {"now": "end"}}}, "default")
    await until(cell, PODS, "two", lambda obj: not obj["spec"].get("schedulingGates"))


async def test_a_group_of_pods_is_one_workload(cell: Cell) -> None:
    await queues(cell.client, quota("3"))
    metadata = {
        "namespace": "default",
        "labels": {QUEUE: "lq", "kueue.x-k8s.io/pod-group-name": "ring"},
        "annotations": {"kueue.x-k8s.io/pod-group-total-count": "3"},
    }
    for number, cpu in enumerate(("1", "1", "500m")):
        pod = {"apiVersion": "v1", "kind": "Pod", **template(cpu), "metadata": {**metadata, "name": f"m{number}"}}
        await cell.client.create(PODS, pod)
        if number == 1:
            assert (await cell.client.list(WORKLOADS, "default"))["items"] == []
    ring = await cell.until(WORKLOADS, "ring", is_true("Admitted"))
    assert sorted(pods["count"] for pods in ring["spec"]["podSets"]) == [1, 2]
    await cell.until_list(PODS, lambda items: all(not pod["spec"].get("schedulingGates") for pod in items))


async def test_a_deployments_pods_are_queued_one_by_one(cell: Cell) -> None:
    await queues(cell.client, quota("2"))
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}
    web = {"metadata": {"name": "web", "namespace": "default", "labels": {QUEUE: "lq"}}}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", **web}
    made["spec"] = {**spec, "template": template("1", {"app": "web"}, restart="Always")}
    await cell.client.create(DEPLOYMENTS, made)

    def two_run(items: list[Obj]) -> bool:
        return len(items) == 3 and sum(not pod["spec"].get("schedulingGates") for pod in items) == 2

    await cell.until_list(PODS, two_run)
    await until(cell, CLUSTER_QUEUES, "cq", lambda obj: obj["status"].get("pendingWorkloads") == 1)


async def test_a_stopped_queue_drains_and_goes_on(cell: Cell) -> None:
    await queues(cell.client, quota("1"))
    await cell.client.create(JOBS, job("work"))
    await until(cell, JOBS, "work", lambda obj: not obj["spec"]["suspend"])
    await cell.client.patch(CLUSTER_QUEUES, "cq", {"spec": {"stopPolicy": "HoldAndDrain"}})
    await until(cell, JOBS, "work", lambda obj: obj["spec"]["suspend"])
    evicted = await workload_of(cell, "work", lambda obj: "admission" not in obj["status"])
    assert (conditions.get(evicted, "Evicted") or {})["reason"] == "ClusterQueueStopped"
    stopped = await until(cell, CLUSTER_QUEUES, "cq", lambda obj: not conditions.is_true(obj, "Active"))
    assert (conditions.get(stopped, "Active") or {})["reason"] == "Stopped"
    await cell.client.patch(CLUSTER_QUEUES, "cq", {"spec": {"stopPolicy": "None"}})
    await until(cell, JOBS, "work", lambda obj: not obj["spec"]["suspend"])


async def test_what_is_missing_is_named(cell: Cell) -> None:
    await cell.client.create(JOBS, job("early"))
    early = await workload_of(cell, "early", lambda obj: conditions.get(obj, "QuotaReserved"))
    said = conditions.get(early, "QuotaReserved") or {}
    assert (said["reason"], said["message"]) == ("Inadmissible", "LocalQueue lq doesn't exist")
    await cell.client.create(CLUSTER_QUEUES, named("ClusterQueue", "cq", quota("1")))
    await cell.client.create(LOCAL_QUEUES, named("LocalQueue", "lq", {"clusterQueue": "cq"}))
    found = await until(cell, CLUSTER_QUEUES, "cq", lambda obj: conditions.get(obj, "Active"))
    assert (conditions.get(found, "Active") or {})["reason"] == "FlavorNotFound"
    await cell.client.create(RESOURCE_FLAVORS, named("ResourceFlavor", "default", {}))
    await until(cell, JOBS, "early", lambda obj: not obj["spec"]["suspend"])


async def test_a_job_that_is_deleted_gives_its_quota_back(cell: Cell) -> None:
    await queues(cell.client, quota("1"))
    await cell.client.create(JOBS, job("first"))
    await workload_of(cell, "first", is_true("Admitted"))
    await cell.client.create(JOBS, job("second"))
    await cell.client.delete(JOBS, "first", "default", propagation="Background")
    await workload_of(cell, "second", is_true("Admitted"))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (quota("-1"), "spec.resourceGroups[0].flavors[0].resources[0].nominalQuota"),
        (
            {
                "resourceGroups": [
                    {
                        "coveredResources": ["cpu", "memory"],
                        "flavors": [{"name": "a", "resources": [{"name": "cpu", "nominalQuota": 1}]}],
                    }
                ]
            },
            "spec.resourceGroups[0].flavors[0].resources",
        ),
        (
            {
                "resourceGroups": [
                    {
                        "coveredResources": ["cpu"],
                        "flavors": [
                            {"name": "a", "resources": [{"name": "cpu", "nominalQuota": 1, "borrowingLimit": 1}]}
                        ],
                    }
                ]
            },
            "spec.resourceGroups[0].flavors[0].resources[0].borrowingLimit",
        ),
        ({"preemption": {"borrowWithinCohort": {"policy": "LowerPriority"}}}, "spec.preemption"),
        ({"queueingStrategy": "Random"}, "spec.queueingStrategy"),
    ],
)
async def test_a_queue_that_makes_no_sense_is_refused(cell: Cell, spec: Obj, field: str) -> None:
    with pytest.raises(StatusError) as refused:
        await cell.client.create(CLUSTER_QUEUES, named("ClusterQueue", "bad", spec))
    assert refused.value.code == 422
    assert [cause.field for cause in refused.value.causes] == [field]
    assert await cell.client.get(NODES, "m1")

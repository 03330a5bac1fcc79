"""Jobs from creation to their end, against the real API."""

from typing import Any

from corral.controllers.jobs.pods import FINALIZER
from corral.kinds import conditions
from corral.kinds.resources import EVENTS, JOBS, POD_GROUPS, PODS
from corral.kinds.types import Obj


def job(name: str, **spec: Any) -> Obj:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "host"}]}}
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def is_complete(obj: Obj) -> bool:
    return conditions.is_true(obj, "Complete")


async def test_a_job_completes_and_counts_its_pod(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.create(JOBS, job("one"))
    done = await cell.until(JOBS, "one", is_complete)
    assert done["status"]["succeeded"] == 1
    assert done["status"]["active"] == 0
    assert done["status"]["completionTime"] >= done["status"]["startTime"]
    assert conditions.is_true(done, "SuccessCriteriaMet")
    (pod,) = (await cell.client.list(PODS, "default"))["items"]
    assert FINALIZER not in pod["metadata"].get("finalizers", ())
    events = await cell.until_list(
        EVENTS, lambda items: {"SuccessfulCreate", "Completed"} <= {e["reason"] for e in items}
    )
    assert any(event["message"] == f"Created pod: {pod['metadata']['name']}" for event in events)


async def test_parallel_completions_are_each_counted_once(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.create(JOBS, job("many", completions=25, parallelism=10))
    done = await cell.until(JOBS, "many", is_complete)
    assert done["status"]["succeeded"] == 25
    assert done["status"]["uncountedTerminatedPods"] == {}
    pods = (await cell.client.list(PODS, "default"))["items"]
    assert len(pods) == 25


async def test_restarts_of_the_controllers_lose_no_completion(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.create(JOBS, job("many", completions=60, parallelism=12))
    for succeeded in (5, 20, 40):
        await cell.until(JOBS, "many", lambda obj, least=succeeded: obj.get("status", {}).get("succeeded", 0) >= least)
        await cell.stop_controllers()
        await cell.start_controllers()
    done = await cell.until(JOBS, "many", is_complete)
    assert done["status"]["succeeded"] == 60
    assert done["status"].get("failed", 0) == 0
    assert len((await cell.client.list(PODS, "default"))["items"]) == 60


async def test_indexed_pods_know_their_index(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.create(JOBS, job("ix", completions=4, parallelism=4, completionMode="Indexed"))
    done = await cell.until(JOBS, "ix", is_complete)
    assert done["status"]["completedIndexes"] == "0-3"
    pods = (await cell.client.list(PODS, "default"))["items"]
    assert sorted(pod["spec"]["hostname"] for pod in pods) == ["ix-0", "ix-1", "ix-2", "ix-3"]
    names = [variable["name"] for variable in pods[0]["spec"]["containers"][0]["env"]]
    assert names == ["JOB_COMPLETION_INDEX"]


async def test_a_job_fails_at_its_backoff_limit(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Failed"
    await cell.client.create(JOBS, job("bad", backoffLimit=0))
    failed = await cell.until(JOBS, "bad", lambda obj: conditions.is_true(obj, "Failed"))
    assert conditions.get(failed, "Failed")["reason"] == "BackoffLimitExceeded"  # type: ignore[index]
    assert failed["status"]["failed"] == 1


async def test_suspend_stops_pods_and_resume_starts_new_ones(cell: Any) -> None:
    await cell.client.create(JOBS, job("pause"))
    await cell.until(JOBS, "pause", lambda obj: obj.get("status", {}).get("ready") == 1)
    await cell.client.patch(JOBS, "pause", {"spec": {"suspend": True}}, "default")
    paused = await cell.until(JOBS, "pause", lambda obj: conditions.is_true(obj, "Suspended"))
    assert paused["status"]["active"] == 0
    await cell.until_list(PODS, lambda items: not items)
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.patch(JOBS, "pause", {"spec": {"suspend": False}}, "default")
    done = await cell.until(JOBS, "pause", is_complete)
    assert done["status"].get("failed", 0) == 0


async def test_a_finished_job_expires(cell: Any) -> None:
    cell.kubelet.ends = lambda pod: "Succeeded"
    await cell.client.create(JOBS, job("short", ttlSecondsAfterFinished=0))
    await cell.until_gone(JOBS, "short")
    await cell.until_list(PODS, lambda items: not items)


async def test_a_deleted_job_takes_its_pods_along(cell: Any) -> None:
    for policy in ("Background", "Foreground"):
        await cell.client.create(JOBS, job("gone"))
        await cell.until(JOBS, "gone", lambda obj: obj.get("status", {}).get("ready") == 1)
        await cell.client.delete(JOBS, "gone", "default", propagation=policy)
        await cell.until_gone(JOBS, "gone")
        await cell.until_list(PODS, lambda items: not items)


async def test_an_orphaned_pod_stays_and_loses_our_finalizer(cell: Any) -> None:
    await cell.client.create(JOBS, job("left"))
    await cell.until(JOBS, "left", lambda obj: obj.get("status", {}).get("ready") == 1)
    await cell.client.delete(JOBS, "left", "default", propagation="Orphan")
    await cell.until_gone(JOBS, "left")
    (pod,) = await cell.until_list(PODS, lambda items: items and not items[0]["metadata"].get("finalizers"))
    assert not pod["metadata"].get("ownerReferences")
    assert not pod["metadata"].get("deletionTimestamp")


async def test_a_job_that_names_a_group_of_its_own_gets_it(cell: Any) -> None:
    cell.kubelet.binds = False
    wanted = job("train", completions=5, parallelism=3)
    wanted["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": "train"}
    await cell.client.create(JOBS, wanted)
    group = await cell.until(POD_GROUPS, "train", bool)
    assert group["spec"] == {"schedulingPolicy": {"gang": {"minCount": 3}}}
    pods = await cell.until_list(PODS, lambda items: len(items) == 3)
    assert {pod["spec"]["schedulingGroup"]["podGroupName"] for pod in pods} == {"train"}
    await cell.client.delete(POD_GROUPS, "train", "default")
    again = await cell.until(POD_GROUPS, "train", lambda found: found["metadata"]["uid"] != group["metadata"]["uid"])
    cell.kubelet.binds, cell.kubelet.ends = True, lambda pod: "Succeeded"
    for pod in pods:
        binding = {"kind": "Binding", "apiVersion": "v1", "metadata": {"name": pod["metadata"]["name"]}}
        binding["target"] = {"kind": "Node", "apiVersion": "v1", "name": "m1"}
        await cell.client.create_subresource(PODS, pod["metadata"]["name"], "default", "binding", binding)
    await cell.until(JOBS, "train", is_complete)
    found = await cell.until(POD_GROUPS, "train", lambda found: conditions.is_true(found, "PodGroupScheduled"))
    assert found["metadata"]["uid"] == again["metadata"]["uid"]
    await cell.client.delete(JOBS, "train", "default", propagation="Background")
    await cell.until_gone(POD_GROUPS, "train")


async def test_no_group_is_made_for_a_job_that_names_another_or_is_suspended(cell: Any) -> None:
    for name, group, more in (("other", "shared", {}), ("held", "held", {"suspend": True})):
        wanted = job(name, **more)
        wanted["spec"]["template"]["spec"]["schedulingGroup"] = {"podGroupName": group}
        await cell.client.create(JOBS, wanted)
    await cell.until_list(PODS, lambda items: len(items) == 1)
    assert (await cell.client.list(POD_GROUPS, "default"))["items"] == []
    await cell.client.patch(JOBS, "held", {"spec": {"suspend": False}}, "default")
    assert (await cell.until(POD_GROUPS, "held", bool))["spec"] == {"schedulingPolicy": {"gang": {"minCount": 1}}}

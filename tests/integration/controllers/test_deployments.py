"""Deployments, as a user sees them."""

from typing import Any

from corral.controllers.deployments.revisions import REVISION
from corral.kinds import conditions
from corral.kinds.resources import CONTROLLER_REVISIONS, DAEMON_SETS, DEPLOYMENTS, EVENTS, NODES, PODS, REPLICA_SETS
from corral.kinds.types import Obj


def deployment(name: str, replicas: int = 3, image: str = "v1", **spec: Any) -> Obj:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def is_rolled_out(obj: Obj) -> bool:
    """What `kubectl rollout status` waits for."""
    status, replicas = obj.get("status", {}), obj["spec"]["replicas"]
    counts = [status.get(field, 0) for field in ("updatedReplicas", "replicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= obj["metadata"]["generation"] and counts == [replicas] * 3


async def set_image(cell: Any, name: str, image: str) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": image}]}}
    await cell.client.patch(DEPLOYMENTS, name, {"spec": {"template": template}}, "default")


async def test_rolls_out_updates_and_goes_back(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment("web"))
    first = await cell.until(DEPLOYMENTS, "web", is_rolled_out)
    assert first["metadata"]["annotations"][REVISION] == "1"
    await set_image(cell, "web", "v2")
    second = await cell.until(
        DEPLOYMENTS, "web", lambda obj: is_rolled_out(obj) and obj["metadata"]["annotations"][REVISION] == "2"
    )
    assert conditions.get(second, "Available")["status"] == "True"  # type: ignore[index]
    pods = await cell.until_list(PODS, lambda items: len(items) == 3)
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"v2"}
    await set_image(cell, "web", "v1")
    await cell.until(
        DEPLOYMENTS, "web", lambda obj: is_rolled_out(obj) and obj["metadata"]["annotations"][REVISION] == "3"
    )
    assert len((await cell.client.list(REPLICA_SETS, "default"))["items"]) == 2
    events = (await cell.client.list(EVENTS, "default"))["items"]
    assert any(event["reason"] == "ScalingReplicaSet" for event in events)


async def test_scales(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment("size", 2))
    await cell.until(DEPLOYMENTS, "size", is_rolled_out)
    for replicas in (5, 1, 0):
        scale = {"spec": {"replicas": replicas}}
        await cell.client.patch(DEPLOYMENTS, "size", scale, "default", subresource="scale")
        await cell.until(DEPLOYMENTS, "size", is_rolled_out)
        await cell.until_list(PODS, lambda items, wanted=replicas: len(items) == wanted)


async def test_recreate(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment("again", 2, strategy={"type": "Recreate"}))
    await cell.until(DEPLOYMENTS, "again", is_rolled_out)
    await set_image(cell, "again", "v2")
    await cell.until(
        DEPLOYMENTS, "again", lambda obj: is_rolled_out(obj) and obj["metadata"]["annotations"][REVISION] == "2"
    )


async def test_a_lost_pod_is_replaced(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment("keep", 2))
    await cell.until(DEPLOYMENTS, "keep", is_rolled_out)
    pods = (await cell.client.list(PODS, "default"))["items"]
    lost = pods[0]["metadata"]["name"]
    await cell.client.delete(PODS, lost, "default")
    await cell.until_gone(PODS, lost)
    await cell.until_list(PODS, lambda items: len(items) == 2)


async def test_an_orphan_is_adopted_and_a_relabelled_pod_let_go(cell: Any) -> None:
    template = deployment("adopt")["spec"]["template"]
    replica_set: Obj = {
        "kind": "ReplicaSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "adopt", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "adopt"}}, "template": template},
    }
    orphan = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "adopt"}},
        "spec": template["spec"],
    }
    await cell.client.create(PODS, orphan)
    await cell.client.create(REPLICA_SETS, replica_set)
    adopted = await cell.until(PODS, "orphan", lambda obj: obj["metadata"].get("ownerReferences"))
    assert adopted["metadata"]["ownerReferences"][0]["controller"] is True
    await cell.until_list(PODS, lambda items: len(items) == 2)
    await cell.client.patch(PODS, "orphan", {"metadata": {"labels": {"app": "other"}}}, "default")
    await cell.until(PODS, "orphan", lambda obj: not obj["metadata"].get("ownerReferences"))
    await cell.until_list(PODS, lambda items: len(items) == 3)


async def test_deleting_in_every_way(cell: Any) -> None:
    for policy in ("Background", "Foreground"):
        await cell.client.create(DEPLOYMENTS, deployment("del", 2))
        await cell.until(DEPLOYMENTS, "del", is_rolled_out)
        await cell.client.delete(DEPLOYMENTS, "del", "default", propagation=policy)
        await cell.until_gone(DEPLOYMENTS, "del")
        await cell.until_list(REPLICA_SETS, lambda items: not items)
        await cell.until_list(PODS, lambda items: not items)
    await cell.client.create(DEPLOYMENTS, deployment("del", 2))
    await cell.until(DEPLOYMENTS, "del", is_rolled_out)
    await cell.client.delete(DEPLOYMENTS, "del", "default", propagation="Orphan")
    await cell.until_gone(DEPLOYMENTS, "del")
    (left,) = await cell.until_list(
        REPLICA_SETS, lambda items: items and not items[0]["metadata"].get("ownerReferences")
    )
    assert left["spec"]["replicas"] == 2


async def test_a_daemon_on_the_machine_and_its_update(cell: Any) -> None:
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await cell.client.patch(NODES, "m1", ready, subresource="status")
    made = deployment("every")
    del made["spec"]["replicas"]
    made["kind"] = "DaemonSet"
    await cell.client.create(DAEMON_SETS, made)

    def is_updated(obj: Obj) -> bool:
        status = obj.get("status", {})
        fields = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        fresh = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        return fresh and all(status.get(field) == 1 for field in fields)

    await cell.until(DAEMON_SETS, "every", is_updated)
    template = {"spec": {"containers": [{"name": "c", "image": "v2"}]}}
    await cell.client.patch(DAEMON_SETS, "every", {"spec": {"template": template}}, "default")
    await cell.until(DAEMON_SETS, "every", lambda obj: obj["metadata"]["generation"] == 2 and is_updated(obj))
    revisions = (await cell.client.list(CONTROLLER_REVISIONS, "default"))["items"]
    assert sorted(revision["revision"] for revision in revisions) == [1, 2]

"""StatefulSets, as a user sees them."""

from typing import Any

from corral.kinds.owners import owners_of
from corral.kinds.resources import (
    CONTROLLER_REVISIONS,
    DAEMON_SETS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)
from corral.kinds.types import Obj


def stateful_set(replicas: int = 3, **spec: Any) -> Obj:
    labels = {"app": "db"}
    container = {"name": "c", "image": "v1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "kind": "StatefulSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": storage}],
            **spec,
        },
    }


def is_rolled_out(obj: Obj) -> bool:
    """What `kubectl rollout status` waits for."""
    status, replicas = obj.get("status", {}), obj["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        and status.get("readyReplicas", 0) == replicas
        and status.get("currentRevision") == status.get("updateRevision")
        and status.get("updatedReplicas", 0) == replicas
    )


async def test_pods_have_names_and_claims_that_stay(cell: Any) -> None:
    await cell.client.create(STATEFUL_SETS, stateful_set(3))
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    pods = await cell.until_list(PODS, lambda items: len(items) == 3)
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["db-0", "db-1", "db-2"]
    starts = [pod["metadata"]["resourceVersion"] for pod in sorted(pods, key=lambda pod: pod["metadata"]["name"])]
    assert sorted(starts, key=int) == starts, "one became ready after the other"
    await cell.client.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 1}}, "default", subresource="scale")
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    claims = (await cell.client.list(PERSISTENT_VOLUME_CLAIMS, "default"))["items"]
    assert sorted(claim["metadata"]["name"] for claim in claims) == ["data-db-0", "data-db-1", "data-db-2"]


async def test_an_update_and_its_undoing_leave_a_history(cell: Any) -> None:
    await cell.client.create(STATEFUL_SETS, stateful_set(2))
    first = await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    for image, count in (("v2", 2), ("v1", 2)):
        container = {**first["spec"]["template"]["spec"]["containers"][0], "image": image}
        template = {"spec": {"template": {"spec": {"containers": [container]}}}}
        await cell.client.patch(STATEFUL_SETS, "db", template, "default")
        await cell.until(STATEFUL_SETS, "db", is_rolled_out)
        pods = (await cell.client.list(PODS, "default"))["items"]
        assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}
        assert len((await cell.client.list(CONTROLLER_REVISIONS, "default"))["items"]) == count
    again = await cell.client.get(STATEFUL_SETS, "db", "default")
    assert again["status"]["currentRevision"] == first["status"]["currentRevision"]


async def test_claims_go_with_the_set_if_it_says_so(cell: Any) -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    await cell.client.create(STATEFUL_SETS, stateful_set(2, persistentVolumeClaimRetentionPolicy=policy))
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    await cell.client.patch(STATEFUL_SETS, "db", {"spec": {"replicas": 1}}, "default", subresource="scale")
    await cell.until_gone(PERSISTENT_VOLUME_CLAIMS, "data-db-1")
    await cell.client.delete(STATEFUL_SETS, "db", "default")
    await cell.until_gone(PERSISTENT_VOLUME_CLAIMS, "data-db-0")


async def test_a_set_made_anew_takes_over_what_the_former_left(cell: Any) -> None:
    await cell.client.create(STATEFUL_SETS, stateful_set(2))
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    pods = {pod["metadata"]["uid"] for pod in (await cell.client.list(PODS, "default"))["items"]}
    await cell.client.delete(STATEFUL_SETS, "db", "default", propagation="Orphan")
    await cell.until_list(CONTROLLER_REVISIONS, lambda items: not any(owners_of(item) for item in items))
    anew = await cell.client.create(STATEFUL_SETS, stateful_set(2))
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    revisions = (await cell.client.list(CONTROLLER_REVISIONS, "default"))["items"]
    assert [owner["uid"] for item in revisions for owner in owners_of(item)] == [anew["metadata"]["uid"]]
    assert {pod["metadata"]["uid"] for pod in (await cell.client.list(PODS, "default"))["items"]} == pods


async def test_a_daemon_set_of_the_same_name_and_template_gets_revisions_of_its_own(cell: Any) -> None:
    made = stateful_set(1, volumeClaimTemplates=[])
    del made["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    daemons = {**made, "kind": "DaemonSet", "spec": {name: made["spec"][name] for name in ("selector", "template")}}
    await cell.client.create(STATEFUL_SETS, made)
    await cell.until(STATEFUL_SETS, "db", is_rolled_out)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await cell.client.patch(NODES, "m1", ready, subresource="status")
    await cell.client.create(DAEMON_SETS, daemons)
    found = await cell.until(DAEMON_SETS, "db", lambda obj: obj.get("status", {}).get("numberReady") == 1)
    assert found["status"]["collisionCount"] == 1
    revisions = (await cell.client.list(CONTROLLER_REVISIONS, "default"))["items"]
    assert sorted(owner["kind"] for item in revisions for owner in owners_of(item)) == ["DaemonSet", "StatefulSet"]

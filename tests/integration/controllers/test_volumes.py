"""Claims and volumes on the real API, with the real scheduler and all controllers."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.apiserver.auth.api import User
from corral.apiserver.inprocess import InProcessTransport
from corral.base.clock import SystemClock
from corral.client.client import Client
from corral.kinds.resources import (
    EVENTS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from corral.kinds.status import StatusError
from corral.kinds.storage import VOLUMES_DIRECTORY
from corral.kinds.types import Obj
from corral.scheduler.scheduler import Scheduler
from corral.testing.scheduling import node
from corral.testing.storage import claim, storage_class, volume


@pytest.fixture
async def scheduled(cell: Any) -> AsyncIterator[Any]:
    """A cell with a scheduler and the machines m1 and m2 (m2 keeps volumes)."""
    cell.kubelet.binds = False
    await cell.client.delete(NODES, "m1")
    for name in ("m1", "m2"):
        machine = node(name)
        if name == "m2":
            machine["metadata"]["annotations"] = {VOLUMES_DIRECTORY: "/data/volumes"}
        await cell.client.create(NODES, machine)
    user = User("system:kube-scheduler", ("system:authenticated",))
    client = Client(InProcessTransport(cell.server, user))
    scheduler = asyncio.create_task(Scheduler(client, clock=SystemClock(), rng=random.Random(1)).run())
    yield cell
    scheduler.cancel()
    await asyncio.gather(scheduler, return_exceptions=True)


def asks(obj: Obj, **spec: object) -> Obj:
    """A claim as people write it."""
    del obj["metadata"]["uid"], obj["status"]
    obj["spec"] |= spec
    return obj


def free(obj: Obj) -> Obj:
    del obj["metadata"]["uid"], obj["status"]
    return obj


def user(name: str, *claims: str, machine: str = "") -> Obj:
    volumes = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]
    spec: Obj = {"containers": [{"name": "c", "image": "host"}], "volumes": volumes}
    if machine:
        spec["nodeSelector"] = {"kubernetes.io/hostname": machine}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def phase(wanted: str) -> Any:
    return lambda obj: obj.get("status", {}).get("phase") == wanted


def placed(pod: Obj) -> Any:
    return pod["spec"].get("nodeName")


async def told(cell: Any, reason: str) -> str:
    """The message of the first event with `reason`."""
    found = await cell.until_list(EVENTS, lambda items: [one for one in items if one["reason"] == reason])
    return str(next(one["message"] for one in found if one["reason"] == reason))


async def test_an_immediate_claim_gets_the_smallest_volume_that_suits_and_is_held(cell: Any) -> None:
    await cell.client.create(STORAGE_CLASSES, storage_class("now", delayed=False))
    for name, size in (("large", "9Gi"), ("small", "1Gi"), ("right", "3Gi")):
        await cell.client.create(PERSISTENT_VOLUMES, free(volume(name, storage="now", size=size)))
    await cell.client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("c", storage="now", size="2Gi")))
    bound = await cell.until(PERSISTENT_VOLUME_CLAIMS, "c", phase("Bound"))
    assert bound["spec"]["volumeName"] == "right"
    assert bound["status"]["capacity"] == {"storage": "3Gi"}
    assert bound["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    given = await cell.until(PERSISTENT_VOLUMES, "right", phase("Bound"), "")
    assert given["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
    # Used by a pod, the claim stays until the pod is gone; its volume is kept for a person to look at.
    await cell.client.create(PODS, user("p", "c"))
    await cell.until(PODS, "p", phase("Running"))
    await cell.client.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    await cell.until(PERSISTENT_VOLUME_CLAIMS, "c", lambda one: one["metadata"].get("deletionTimestamp"))
    await cell.client.delete(PODS, "p", "default")
    await cell.until_gone(PERSISTENT_VOLUME_CLAIMS, "c")
    await cell.until(PERSISTENT_VOLUMES, "right", phase("Released"), "")


async def test_a_claim_waits_for_a_volume_to_come(cell: Any) -> None:
    await cell.client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("c", storage="")))
    assert await told(cell, "FailedBinding") == (
        "no persistent volumes available for this claim and no storage class is set"
    )
    await cell.client.create(PERSISTENT_VOLUMES, free(volume("late", storage="")))
    await cell.until(PERSISTENT_VOLUME_CLAIMS, "c", phase("Bound"))


async def test_a_claim_that_waits_for_its_pod_is_bound_where_the_pod_goes(scheduled: Any) -> None:
    client = scheduled.client
    await client.create(STORAGE_CLASSES, storage_class("disks"))
    for machine in ("m1", "m2"):
        await client.create(PERSISTENT_VOLUMES, free(volume(f"disk-{machine}", storage="disks", on=machine)))
    await client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("c", storage="disks")))
    assert await told(scheduled, "WaitForFirstConsumer") == ("waiting for first consumer to be created before binding")
    await client.create(PODS, user("p", "c", machine="m2"))
    assert placed(await scheduled.until(PODS, "p", placed)) == "m2"
    bound = await client.get(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert bound["spec"]["volumeName"] == "disk-m2"
    # A second pod with the claim follows the volume.
    await client.create(PODS, user("q", "c"))
    assert placed(await scheduled.until(PODS, "q", placed)) == "m2"
    await client.create(PODS, user("r", "c", machine="m1"))
    message = await told(scheduled, "FailedScheduling")
    assert "node(s) didn't match PersistentVolume's node affinity" in message


async def test_a_pod_waits_for_its_claim_to_be_made(scheduled: Any) -> None:
    client = scheduled.client
    await client.create(PODS, user("p", "late"))
    expected = '0/2 nodes are available: persistentvolumeclaim "late" not found. preemption: '
    assert (await told(scheduled, "FailedScheduling")).startswith(expected)
    await client.create(PERSISTENT_VOLUMES, free(volume("v", storage="", on="m1")))
    await client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("late", storage="")))
    assert placed(await scheduled.until(PODS, "p", placed)) == "m1"


async def test_a_claim_without_a_class_gets_a_directory_of_the_machine_of_its_pod(scheduled: Any) -> None:
    client = scheduled.client
    wanted = asks(claim("c"))
    del wanted["spec"]["storageClassName"]
    await client.create(PERSISTENT_VOLUME_CLAIMS, wanted)
    await client.create(PODS, user("p", "c", machine="m2"))
    assert placed(await scheduled.until(PODS, "p", placed)) == "m2"
    bound = await client.get(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    assert bound["spec"]["storageClassName"] == "corral-local"
    name = f"pvc-{bound['metadata']['uid']}"
    made = await client.get(PERSISTENT_VOLUMES, name)
    assert made["spec"]["local"] == {"path": f"/data/volumes/{name}"}
    assert made["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    # Released, it is deleted as soon as the machine's agent has removed the directory.
    await client.delete(PODS, "p", "default")
    await client.delete(PERSISTENT_VOLUME_CLAIMS, "c", "default")
    held = await scheduled.until(PERSISTENT_VOLUMES, name, lambda one: one["metadata"].get("deletionTimestamp"), "")
    assert "corral.dev/local-volume" in held["metadata"]["finalizers"]
    # Or when the machine is gone, and the directory with it.
    await client.delete(NODES, "m2")
    await scheduled.until_gone(PERSISTENT_VOLUMES, name, "")


async def test_where_no_volume_can_be_made_another_machine_is_chosen(scheduled: Any) -> None:
    client = scheduled.client
    await client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("c", storage="corral-local")))
    await client.create(PODS, user("p", "c", machine="m1"))
    assert "its agent does not keep volumes" in await told(scheduled, "ProvisioningFailed")
    assert "provisioning failed for PVC c" in await told(scheduled, "FailedScheduling")
    assert not (await client.get(PODS, "p", "default"))["spec"].get("nodeName")


async def test_the_claim_of_an_ephemeral_volume_lives_as_long_as_its_pod(scheduled: Any) -> None:
    client = scheduled.client
    pod = user("p", machine="m2")
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    pod["spec"]["volumes"] = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    await client.create(PODS, pod)
    assert placed(await scheduled.until(PODS, "p", placed)) == "m2"
    made = await client.get(PERSISTENT_VOLUME_CLAIMS, "p-scratch", "default")
    assert made["metadata"]["ownerReferences"][0]["name"] == "p"
    await client.delete(PODS, "p", "default")
    await scheduled.until_gone(PERSISTENT_VOLUME_CLAIMS, "p-scratch")


async def test_a_bound_claim_keeps_to_its_volume(cell: Any) -> None:
    await cell.client.create(PERSISTENT_VOLUMES, free(volume("v", storage="")))
    await cell.client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("c", storage="", volume="v")))
    await cell.until(PERSISTENT_VOLUME_CLAIMS, "c", phase("Bound"))
    patch = {"spec": {"volumeName": "other"}}
    with pytest.raises(StatusError, match="immutable"):
        await cell.client.patch(PERSISTENT_VOLUME_CLAIMS, "c", patch, "default")
    await cell.client.create(PERSISTENT_VOLUME_CLAIMS, asks(claim("late", storage="", volume="v")))
    assert await told(cell, "FailedBinding") == 'volume "v" already bound to a different claim.'

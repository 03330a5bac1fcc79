"""The agent as a whole, on a runtime in memory and an API in a dictionary."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from corral.agent.env import Surroundings
from corral.agent.runtime.api import RuntimeFailure
from corral.agent.volumes.manager import VolumeManager
from corral.kinds.types import Obj


async def test_it_registers_its_node_and_lease(rig: Any) -> None:
    node = rig.api.objects["/api/v1/nodes/m1"]
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "m1"
    assert {item["type"]: item["status"] for item in node["status"]["conditions"]}["Ready"] == "True"
    assert node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == rig.agent.port
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1"
    await rig.settled()
    first = rig.api.objects[lease]["spec"]["renewTime"]
    await rig.advance(10)
    assert rig.api.objects[lease]["spec"]["renewTime"] > first


async def test_a_pod_runs_with_one_status_write(rig: Any) -> None:
    rig.add_pod()
    await rig.settled()
    assert rig.status()["phase"] == "Running"
    assert rig.main()["ready"] is True
    assert len(rig.api.statuses) == 1
    await rig.settled()
    assert {reason for reason, _ in rig.events()} >= {"Pulled", "Created", "Started"}


async def test_a_pod_that_ends_is_succeeded(rig: Any) -> None:
    rig.add_pod(restartPolicy="Never")
    await rig.settled()
    rig.runtime.finish(rig.main()["containerID"].removeprefix("corral://"), 0)
    await rig.settled()
    assert rig.status()["phase"] == "Succeeded"
    assert rig.main()["state"]["terminated"]["reason"] == "Completed"


async def test_a_crashing_container_backs_off(rig: Any) -> None:
    rig.add_pod(containers=[{"name": "main", "image": "host", "command": ["false"]}])
    await rig.settled()
    assert rig.main()["restartCount"] == 1
    assert rig.main()["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    await rig.advance(10.01)
    assert rig.main()["restartCount"] == 2
    await rig.advance(10.01)
    assert rig.main()["restartCount"] == 2
    await rig.advance(10.01)
    assert rig.main()["restartCount"] == 3
    assert "BackOff" in {reason for reason, _ in rig.events()}


async def test_a_program_that_is_not_there_is_told(rig: Any) -> None:
    rig.add_pod(restartPolicy="Never", containers=[{"name": "main", "image": "host", "command": ["nonesuch"]}])
    await rig.settled()
    terminated = rig.main()["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert "nonesuch" in terminated["message"]
    assert rig.status()["phase"] == "Failed"


async def test_an_image_that_is_not_there_is_tried_again(rig: Any) -> None:
    image = {"name": "main", "image": "example.com/app:1", "command": ["sleep", "9"]}
    rig.add_pod(containers=[image])
    await rig.settled()
    assert rig.main()["state"]["waiting"]["reason"] == "ErrImagePull"
    await rig.advance(1.5)
    assert rig.main()["state"]["waiting"]["reason"] == "ImagePullBackOff"
    rig.runtime.images.add("example.com/app:1", remote=True)
    await rig.advance(9)
    assert rig.status()["phase"] == "Running"
    assert rig.runtime.images.pulls == ["example.com/app:1"] * 2


async def test_deletion_reports_the_end_and_leaves_nothing(rig: Any) -> None:
    key = rig.add_pod(volumes=[{"name": "scratch", "emptyDir": {}}])
    await rig.settled()
    pods = rig.agent.layout.pods
    assert (pods / "u-web" / "volumes" / "scratch").is_dir()
    rig.api.mark_deleted(key, grace=2)
    await rig.settled()
    await rig.advance(2.1)
    await rig.settled()
    assert key not in rig.api.objects
    assert list(pods.iterdir()) == []
    assert await rig.runtime.sandboxes() == ()
    assert rig.api.statuses[-1] is not None


@pytest.mark.parametrize("forced", [True, False])
async def test_a_pod_that_vanishes_is_cleared_up(rig: Any, forced: bool) -> None:
    key = rig.add_pod()
    await rig.settled()
    containers = await rig.runtime.containers()
    rig.runtime.process(containers[0].id).ignored_signals.add(signal.SIGTERM)
    if forced:
        pod = rig.api.objects[key]
        metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
        rig.api.objects[key] = {**pod, "metadata": metadata}
    rig.api.remove(key, {})
    await rig.settled()
    await rig.advance(0.1 if forced else 30.1)
    assert await rig.runtime.sandboxes() == ()


async def test_a_missing_config_map_is_waited_for(rig: Any) -> None:
    env = [{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "paint", "key": "color"}}}]
    rig.add_pod(containers=[{"name": "main", "image": "host", "command": ["sleep", "9"], "env": env}])
    await rig.settled()
    waiting = rig.main()["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'configmap "paint" not found'}
    metadata = {"name": "paint", "namespace": "default"}
    rig.api.put("/api/v1/namespaces/default/configmaps/paint", {"metadata": metadata, "data": {"color": "red"}})
    await rig.settled()
    assert rig.status()["phase"] == "Running"
    spec = rig.runtime.spec(rig.main()["containerID"].removeprefix("corral://"))
    assert ("COLOR", "red") in spec.env


async def test_a_mounted_config_map_follows_its_object(rig: Any) -> None:
    metadata = {"name": "paint", "namespace": "default"}
    place = "/api/v1/namespaces/default/configmaps/paint"
    rig.api.put(place, {"metadata": metadata, "data": {"color": "red"}})
    rig.add_pod(volumes=[{"name": "paint", "configMap": {"name": "paint"}}])
    await rig.settled()
    await rig.advance(1)
    file = rig.agent.layout.volume("u-web", "paint") / "color"
    assert file.read_text() == "red"
    rig.api.put(place, {"metadata": metadata, "data": {"color": "blue"}})
    await rig.settled()
    assert file.read_text() == "blue"


async def test_a_volume_that_cannot_be_mounted_is_told(rig: Any) -> None:
    rig.add_pod(volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "c"}}])
    await rig.settled()
    assert 'persistentvolumeclaim "c" not found' in rig.main()["state"]["waiting"]["message"]
    assert any(reason == "FailedMount" for reason, _ in rig.events())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ValueError("a fault of ours")])
async def test_what_fails_for_one_pod_is_tried_again_but_not_at_once(
    rig: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tried = []

    async def prepare(self: VolumeManager, pod: Obj, around: Surroundings) -> dict[str, Path]:
        tried.append(pod)
        raise error

    monkeypatch.setattr(VolumeManager, "prepare", prepare)
    rig.add_pod()
    await rig.advance(9)
    assert 0 < len(tried) < 10
    monkeypatch.undo()
    await rig.advance(20)
    assert "running" in rig.main()["state"]


async def test_after_a_restart_containers_are_adopted_and_exits_reported(rig: Any) -> None:
    rig.add_pod("stays")
    rig.add_pod("ends", restartPolicy="Never")
    rig.add_pod("leaves")
    await rig.settled()
    running = rig.main("stays")["containerID"]
    await rig.agent.stop()
    rig.runtime.finish(rig.main("ends")["containerID"].removeprefix("corral://"), 7)
    rig.api.objects.pop("/api/v1/namespaces/default/pods/leaves")
    rig.agent = rig.build()
    await rig.agent.start()
    await rig.settled()
    assert rig.main("stays")["containerID"] == running
    assert rig.main("stays")["restartCount"] == 0
    assert rig.main("ends")["state"]["terminated"]["exitCode"] == 7
    assert {box.pod_uid for box in await rig.runtime.sandboxes()} == {"u-stays", "u-ends"}


async def test_pods_go_on_without_the_api_and_are_reported_later(rig: Any) -> None:
    rig.add_pod()
    await rig.settled()
    first = rig.main()["containerID"].removeprefix("corral://")
    rig.api.down = True
    rig.runtime.finish(first, 1)
    await rig.settled()
    worker = rig.agent.worker("default", "web")
    assert worker is not None
    run = worker.container("main")
    assert run is not None
    assert run.attempt == 1
    await rig.advance(60)
    rig.api.down = False
    await rig.advance(11)
    assert rig.main()["restartCount"] == 1
    started = [obj for key, obj in rig.api.objects.items() if "/events/" in key and obj["reason"] == "Started"]
    assert [event["count"] for event in started] == [2], "what happened meanwhile is told, too"
    assert started[0]["lastTimestamp"] == rig.main()["state"]["running"]["startedAt"]


async def test_a_sandbox_that_fails_is_tried_again(rig: Any) -> None:
    rig.runtime.fail("create_sandbox", RuntimeFailure("FailedCreatePodSandBox", "no addresses left"))
    rig.add_pod()
    await rig.settled()
    assert rig.main()["state"]["waiting"]["message"] == "no addresses left"
    await rig.advance(1.1)
    assert rig.status()["phase"] == "Running"


async def test_a_reboot_restarts_pods_in_new_sandboxes(rig: Any) -> None:
    rig.add_pod()
    await rig.settled()
    await rig.agent.stop()
    rig.runtime.reboot()
    await rig.settled()
    rig.agent = rig.build()
    await rig.agent.start()
    await rig.settled()
    assert rig.status()["phase"] == "Running"
    assert rig.main()["restartCount"] == 1
    assert [box.ready for box in await rig.runtime.sandboxes()] == [True]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"nodeSelector": {"disk": "ssd"}}, "NodeAffinity"),
        (
            {"containers": [{"name": "main", "image": "host", "resources": {"requests": {"cpu": "1000"}}}]},
            "OutOfcpu",
        ),
    ],
)
async def test_a_pod_that_does_not_fit_is_refused(rig: Any, spec: dict[str, Any], reason: str) -> None:
    rig.add_pod(**spec)
    await rig.settled()
    assert (rig.status()["phase"], rig.status()["reason"]) == ("Failed", reason)
    assert await rig.runtime.sandboxes() == ()

"""Pods in real containers, as the agent makes them."""

import base64
from typing import Any

from corral.kinds.resources import CONFIG_MAPS, SECRETS
from corral.kinds.types import Obj


def meta(kind: str, name: str, **more: Any) -> Obj:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, **more}


async def test_a_pod_sees_its_environment_and_its_volumes(cell: Any) -> None:
    await cell.admin.create(CONFIG_MAPS, meta("ConfigMap", "paint", data={"color": "red"}))
    secret = {"pass": base64.b64encode(b"s3").decode()}
    await cell.admin.create(SECRETS, meta("Secret", "key", data=secret))
    script = (
        "cat /paint/color; echo; cat /key/pass; echo; cat /info/name; echo; echo $COLOR $GREETING $MY_IP; hostname; "
        "stat -f -c %T /memory; id -u; id -g; touch /scratch/mine && stat -c %u:%g /scratch/mine; "
        "test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; grep -c web /etc/hosts"
    )
    container = {
        "env": [
            {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "paint", "key": "color"}}},
            {"name": "GREETING", "value": "hello-$(COLOR)"},
            {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "volumeMounts": [
            {"name": "paint", "mountPath": "/paint"},
            {"name": "key", "mountPath": "/key"},
            {"name": "info", "mountPath": "/info"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }
    volumes = [
        {"name": "paint", "configMap": {"name": "paint"}},
        {"name": "key", "secret": {"secretName": "key"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    context = {"runAsUser": 1234, "runAsGroup": 5678, "fsGroup": 4321}
    pod = await cell.pod("web", "sh", "-c", script, container=container, volumes=volumes, securityContext=context)
    ended = await cell.ended("web")
    said = cell.log(pod).splitlines()
    assert ended["exitCode"] == 0, said
    address = said[3].split(" ")[2]
    assert said == [
        "red",
        "s3",
        "web",
        f"red hello-red {address}",
        "web",
        "tmpfs",
        "1234",
        "5678",
        "1234:4321",
        "token",
        "1",
    ]


async def test_too_much_memory_is_told(cell: Any) -> None:
    limits = {"resources": {"limits": {"memory": "24Mi"}}}
    await cell.pod("big", "sh", "-c", "x=a; while :; do x=$x$x; done", container=limits)
    assert (await cell.ended("big"))["reason"] == "OOMKilled"


async def test_last_words_and_exit_codes(cell: Any) -> None:
    await cell.pod("words", "sh", "-c", "echo goodbye > /dev/termination-log; exit 42")
    ended = await cell.ended("words")
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (42, "Error", "goodbye\n")


async def test_a_failed_liveness_probe_restarts(cell: Any) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = {"livenessProbe": probe}
    await cell.pod("frail", "sleep", "100", container=container, restartPolicy="Always")
    pod = await cell.until("frail", lambda status: _restarts(status) >= 1)
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] in (137, 143)


def _restarts(status: Obj) -> int:
    return max((found["restartCount"] for found in status.get("containerStatuses") or ()), default=0)


async def test_init_containers_and_sub_paths(cell: Any) -> None:
    mounts = [{"name": "shared", "mountPath": "/out", "subPath": "a/b"}]
    init = {"name": "setup", "image": "host", "command": ["sh", "-c", "echo made > /out/file"], "volumeMounts": mounts}
    pod = await cell.pod(
        "two",
        "cat",
        "/out/file",
        container={"volumeMounts": mounts},
        initContainers=[init],
        volumes=[{"name": "shared", "emptyDir": {}}],
    )
    assert (await cell.ended("two"))["exitCode"] == 0
    assert cell.log(pod) == "made\n"


async def test_a_restarted_cell_adopts_its_containers(open_cell: Any) -> None:
    async with open_cell() as cell:
        await cell.pod("stays", "sleep", "100")
        await cell.pod("ends", "sh", "-c", "sleep 0.5; exit 7")
        before = await cell.until("stays", lambda status: status.get("phase") == "Running")
        await cell.until("ends", lambda status: status.get("phase") == "Running")
    async with open_cell() as cell:
        assert (await cell.ended("ends"))["exitCode"] == 7
        after = await cell.until("stays", lambda status: status.get("phase") == "Running")
        assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
        await cell.delete_all()

"""A joined machine is away for a short while, and nothing moves; of longer absences see `tests/cell/fleet`."""

import json
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.base.clock import parse_rfc3339

from .conftest import Cell

_SECONDS = 60.0


@dataclass
class Joined:
    """A machine that has joined."""

    directory: Path

    @property
    def pid(self) -> int:
        return int((self.directory / "run" / "corral.pid").read_text())


@pytest.fixture
def joined(own_cell: Cell) -> Iterator[Joined]:
    line = shlex.split(own_cell.corral("token", "create", "--ttl", "10m").stdout)[1:]
    with tempfile.TemporaryDirectory(prefix="corral-joined-") as name:
        options = [
            "--name",
            "second",
            "--address",
            "127.0.0.2",
            "--port",
            "0",
            "--data-dir",
            name,
            "--labels",
            "disk=ssd",
        ]
        own_cell.corral(*line, *options, "--detach")
        yield Joined(Path(name))
        own_cell.corral("down", "--data-dir", name, "-t", "1")


def workloads() -> str:
    """A StatefulSet and a Deployment that would rather be on the second machine."""
    prefers = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}
    affinity = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": prefers}]}
    items = []
    for kind, extra in (("StatefulSet", {"serviceName": "x"}), ("Deployment", {})):
        labels = {"app": kind.lower()}
        container = {"name": "c", "image": "host", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait"]}
        pod = {"affinity": {"nodeAffinity": affinity}, "containers": [container], "terminationGracePeriodSeconds": 1}
        template = {"metadata": {"labels": labels}, "spec": pod}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template, **extra}
        items.append({"kind": kind, "apiVersion": "apps/v1", "metadata": {"name": labels["app"]}, "spec": spec})
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": items})


def where(cell: Cell) -> dict[str, str]:
    """The machines of the pods that run and are not being deleted."""
    return {
        pod["metadata"]["labels"]["app"]: pod["spec"].get("nodeName", "")
        for pod in cell.get("pods", "-l", "app")["items"]
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def until(wanted: object, look: object) -> float:
    """Seconds until `look()` is as `wanted()` says."""
    began = time.monotonic()
    while not wanted(look()):  # type: ignore[operator]
        assert time.monotonic() - began < _SECONDS, look()  # type: ignore[operator]
        time.sleep(0.1)
    return time.monotonic() - began


def crasher(flags: Path) -> str:
    """A pod on the second machine that fails when there is a file `crash`, and removes it."""
    script = "echo began; while [ ! -e /flags/crash ]; do sleep 0.05; done; rm /flags/crash; echo ended; exit 3"
    container = {
        "name": "c",
        "image": "host",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "flags", "mountPath": "/flags"}],
    }
    volumes = [{"name": "flags", "hostPath": {"path": str(flags)}}]
    spec = {"nodeName": "second", "containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    return json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "crasher"}, "spec": spec})


def starts_told(cell: Cell, name: str) -> int:
    """How many starts of a pod's container events tell of."""
    selector = f"reason=Started,involvedObject.name={name}"
    return sum(event["count"] for event in cell.get("events", "--field-selector", selector)["items"])


def test_a_short_absence_moves_and_restarts_nothing(own_cell: Cell, joined: Joined, tmp_path: Path) -> None:
    """And while there is no server, machines start again what fails; all of it is told when there is one."""
    own_cell.kubectl("apply", "-f", "-", stdin=workloads())
    own_cell.kubectl("apply", "-f", "-", stdin=crasher(tmp_path))
    until(lambda found: set(found) == {"statefulset", "deployment"}, lambda: where(own_cell))
    own_cell.kubectl("wait", "--for=condition=Ready", "pod/crasher", "--timeout=30s")
    until(lambda count: count == 1, lambda: starts_told(own_cell, "crasher"))
    before = {pod["metadata"]["uid"] for pod in own_cell.get("pods")["items"]}
    os.kill(joined.pid, signal.SIGKILL)
    own_cell.corral("join", "--data-dir", str(joined.directory), "--detach")
    os.kill(own_cell.pid(), signal.SIGKILL)
    gone = time.time()
    (tmp_path / "crash").touch()
    until(lambda there: not there, (tmp_path / "crash").exists)
    time.sleep(8.0)  # longer than the fence: a server that does not run moves nothing
    back = time.time()
    own_cell.up()
    own_cell.kubectl("wait", "--for=condition=Ready", "node/second", "--timeout=60s")
    own_cell.kubectl("wait", "--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/crasher")
    pods = own_cell.get("pods")["items"]
    assert {pod["metadata"]["uid"] for pod in pods} == before
    restarts = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
    assert sorted(restarts.values()) == [0, 0, 1]
    crashed = own_cell.get("pod", "crasher")["status"]["containerStatuses"][0]
    assert crashed["lastState"]["terminated"]["exitCode"] == 3
    assert int(gone) <= parse_rfc3339(crashed["state"]["running"]["startedAt"]).timestamp() < back
    assert own_cell.kubectl("logs", "crasher", "--previous").stdout == "began\nended\n"
    assert own_cell.kubectl("logs", "crasher").stdout == "began\n"
    until(lambda count: count == 2, lambda: starts_told(own_cell, "crasher"))

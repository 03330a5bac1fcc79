"""SIGKILL of the cell in the middle of a rollout, a Job and the end of a namespace: afterwards all of it comes true,
exactly."""

import json
import os
import random
import select
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from corral.app.config import CellConfig

from ..e2e.conftest import Cell, kubectls
from ..leaks import leaks

_ROUNDS = int(os.environ.get("CORRAL_FAULT_ROUNDS", "3"))
_COMPLETIONS = 30
_REPLICAS = 4
_CLEAR_SECONDS = 10.0


def _kill(cell: Cell) -> None:
    """SIGKILL the server process, and wait until it is gone."""
    pid = cell.pid()
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([descriptor], [], [], 10)[0]
    os.close(descriptor)


def _deployment(version: int) -> dict[str, Any]:
    labels = {"app": "rolling"}
    container = {
        "name": "main",
        "image": "host",
        "command": ["sleep", "100000"],
        "env": [{"name": "VERSION", "value": str(version)}],
    }
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    template = {"metadata": {"labels": {**labels, "version": str(version)}}, "spec": pod}
    spec = {"replicas": _REPLICAS, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rolling"}, "spec": spec}


def _job(name: str, directory: Path) -> dict[str, Any]:
    """An indexed Job whose pods add their index to a file; an append of a short line is atomic."""
    container = {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", 'echo "$JOB_COMPLETION_INDEX" >> /results/done'],
        "volumeMounts": [{"name": "results", "mountPath": "/results"}],
    }
    volumes = [{"name": "results", "hostPath": {"path": str(directory), "type": "DirectoryOrCreate"}}]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    spec = {
        "completionMode": "Indexed",
        "completions": _COMPLETIONS,
        "parallelism": 6,
        "backoffLimit": 0,
        "template": {"spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _namespace(name: str) -> list[dict[str, Any]]:
    """A namespace with something of several kinds in it."""
    pod = {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "host", "command": ["sleep", "9999"]}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    metadata = {"name": "inside", "namespace": name}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
    ]


def _apply(cell: Cell, *objects: dict[str, Any]) -> None:
    cell.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def _follow_job(cell: Cell, name: str, pods: int) -> None:
    """Return when so many of the Job's pods have been seen to begin or to end."""
    command = [kubectls()[-1], "get", "pods", "-l", f"job-name={name}", "--watch", "--no-headers"]
    with subprocess.Popen(command, env=cell.environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        seen: set[str] = set()
        for line in watch.stdout:
            pod, _, status = line.split()[:3]
            if status in ("Running", "Completed"):
                seen.add(pod)
            if len(seen) >= pods:
                break
        watch.kill()


def _leaks(cell: Cell) -> list[str]:
    return leaks({CellConfig(cell.data_dir).machine: cell.data_dir}, cell.get("pods", "-A")["items"])


@pytest.mark.timeout(60 + 60 * _ROUNDS)
def test_everything_comes_true_after_a_kill(own_cell: Cell, tmp_path: Path) -> None:
    cell = own_cell
    for number in range(_ROUNDS):
        rng = random.Random(number)
        job, ending, results = f"count-{number}", f"ending-{number}", tmp_path / str(number)
        _apply(cell, _deployment(2 * number))
        _apply(cell, *_namespace(ending))
        cell.kubectl("rollout", "status", "deployment/rolling", "--timeout=60s")
        cell.kubectl("rollout", "status", "deployment/inside", "-n", ending, "--timeout=60s")

        _apply(cell, _job(job, results), _deployment(2 * number + 1))
        cell.kubectl("delete", "namespace", ending, "--wait=false")
        for _ in range(rng.randint(1, 3)):
            _follow_job(cell, job, rng.randint(1, _COMPLETIONS // 2))
            _kill(cell)
            cell.up()

        _wait(cell, "wait", "--for=condition=complete", f"job/{job}")
        _wait(cell, "rollout", "status", "deployment/rolling")
        _wait(cell, "wait", "--for=delete", f"namespace/{ending}")
        _check(cell, job, results, version=2 * number + 1)


def _wait(cell: Cell, *arguments: str) -> None:
    """Run kubectl, which waits for something; whatever speaks against that is in the error."""
    done = cell.kubectl(*arguments, "--timeout=60s", check=False)
    if done.returncode:
        unfinished = [
            pod
            for pod in cell.get("pods", "-A")["items"]
            if pod["status"]["phase"] != "Succeeded"
            and not all(status["ready"] for status in pod["status"].get("containerStatuses") or [{"ready": False}])
        ]
        events = cell.kubectl("get", "events", "--sort-by=.lastTimestamp").stdout.splitlines()[-40:]
        raise AssertionError("\n".join([done.stdout, done.stderr, *map(json.dumps, unfinished), *events]))


def _check(cell: Cell, job: str, results: Path, version: int) -> None:
    status = cell.get("job", job)["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (_COMPLETIONS, 0), status
    assert status["completedIndexes"] == f"0-{_COMPLETIONS - 1}"
    assert not status.get("uncountedTerminatedPods"), status
    lines = Counter(int(line) for line in (results / "done").read_text().split())
    assert lines == Counter(range(_COMPLETIONS)), "a completion was lost or ran twice"

    pods = [pod for pod in cell.get("pods", "-l", "app=rolling")["items"] if "deletionTimestamp" not in pod["metadata"]]
    assert [pod["metadata"]["labels"]["version"] for pod in pods] == [str(version)] * _REPLICAS
    cell.kubectl("delete", "job", job)
    cell.kubectl("wait", "--for=delete", "pod", "-l", f"job-name={job}", "--timeout=30s")
    # A pod leaves the API when its containers are gone; what else there was of it goes at once, but later.
    ends = time.monotonic() + _CLEAR_SECONDS
    while (found := _leaks(cell)) and time.monotonic() < ends:
        time.sleep(0.1)
    assert not found

"""One fleet of three machines (`corral up --machines 3`) for all tests of this directory.

A test may kill, cut off and freeze machines; afterwards all of them are healed, and Ready again for the next test.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corral.app.config import CellConfig
from corral.app.fleet import layout, power

from ..conftest import state
from ..e2e.conftest import Cell

MACHINES = ("m1", "m2", "m3")
_SECONDS = 60.0


class Fleet(Cell):
    """A cell in the background whose machines are network namespaces, and what a person can do to them."""

    @property
    def config(self) -> CellConfig:
        return CellConfig(self.data_dir)

    def machine(self, name: str) -> layout.Machine:
        """Its addresses, directories and network namespace."""
        fleet = layout.load(self.config)
        assert fleet is not None
        return fleet.find(name)

    def processes(self, name: str) -> list[int]:
        """All processes of a machine: agent, watchman, monitors and containers."""
        return power.processes(self.machine(name))

    def kill(self, name: str) -> None:
        """Cut its power."""
        self.corral("machine", "kill", name)

    def partition(self, name: str, direction: str = "both") -> None:
        """Drop what it sends (`out`), what is sent to it (`in`), or both."""
        self.corral("machine", "partition", name, "--direction", direction)

    def freeze(self, name: str, *options: str) -> None:
        """Stop its processes; with `--agent-only` the agent alone."""
        self.corral("machine", "freeze", name, *options)

    def heal(self, name: str) -> None:
        """Undo whatever was done to it."""
        self.corral("machine", "heal", name)

    def ready(self) -> dict[str, str]:
        """Each machine's condition Ready."""
        nodes = self.get("nodes")["items"]
        return {
            node["metadata"]["name"]: condition["status"]
            for node in nodes
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready"
        }

    def running(self, app: str) -> dict[str, str]:
        """The machines of the pods labelled `app` that run and are not being deleted, by name."""
        return {
            pod["metadata"]["name"]: pod["spec"]["nodeName"]
            for pod in self.get("pods", "-l", f"app={app}")["items"]
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        }


def until(wanted: Callable[[], bool], complaint: str) -> float:
    """Wait until `wanted()`; gives the seconds."""
    began = time.monotonic()
    while not wanted():
        assert time.monotonic() - began < _SECONDS, complaint
        time.sleep(0.1)
    return time.monotonic() - began


def deployment(app: str, replicas: int, script: str) -> str:
    """A Deployment of `sh -c SCRIPT`, spread over the machines."""
    return _workload("Deployment", app, replicas, script, {})


def stateful_set(app: str, replicas: int, script: str) -> str:
    """A StatefulSet of `sh -c SCRIPT`, spread over the machines."""
    extra = {"serviceName": app, "podManagementPolicy": "Parallel"}
    return _workload("StatefulSet", app, replicas, script, extra)


def _workload(kind: str, app: str, replicas: int, script: str, extra: dict[str, str]) -> str:
    labels = {"app": app}
    container = {"name": "c", "image": "host", "command": ["sh", "-c", script]}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod = {
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": labels}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **extra}
    return json.dumps({"kind": kind, "apiVersion": "apps/v1", "metadata": {"name": app}, "spec": spec})


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """The fleet outlives a test; what it leaves is looked for when it goes down."""


@pytest.fixture(scope="session")
def whole_fleet() -> Iterator[Fleet]:
    if os.geteuid() != 0:
        pytest.skip("machines in network namespaces need root")
    directory = Path(tempfile.mkdtemp(prefix="cf"))
    fleet = Fleet(directory / "c")
    names = {CellConfig(fleet.data_dir).name, str(fleet.data_dir)}
    try:
        fleet.up("--machines", str(len(MACHINES)), "--capacity", "cpu=4,memory=2Gi")
        names |= {fleet.machine(name).config.name for name in MACHINES}
        yield fleet
    finally:
        fleet.corral("down", "-t", "1", check=False)
        for log in [*sorted(fleet.data_dir.glob("machines/*/log/corral.log")), *fleet.data_dir.glob("log/corral.log")]:
            sys.stderr.write(f"{log}:\n{log.read_text()}")
        left = {
            kind: {what for what in found if any(name in what for name in names)} for kind, found in state().items()
        }
        shutil.rmtree(directory)
    assert not any(left.values()), f"the fleet left behind: {left}"


@pytest.fixture
def fleet(whole_fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with all machines Ready, and no workloads afterwards."""
    yield whole_fleet
    for name in MACHINES:
        machine = whole_fleet.machine(name)
        if power.is_off(machine) or whole_fleet.ready()[name] != "True":
            whole_fleet.heal(name)
    whole_fleet.kubectl("delete", "deployments,statefulsets,daemonsets,jobs,pods", "--all", "--wait=false")
    until(lambda: set(whole_fleet.ready().values()) == {"True"}, "the machines did not become ready again")

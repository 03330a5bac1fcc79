"""A cell whose disk is full says so by name, goes on reading, loses nothing, and writes again when there is room."""

import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..e2e.conftest import Cell, Result, kubectls

_MOST = 200
"""Objects that a full disk may still take: pages that the store had before."""


def _fill(disk: Path, leave: int = 0) -> Path:
    """Take all space of the file system but `leave` bytes; returns the file that holds it."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - leave)
    return ballast


def _write_until_refused(cell: Cell) -> tuple[set[str], Result]:
    """Names of the ConfigMaps that were acknowledged, and the refusal."""
    names: set[str] = set()
    for number in range(_MOST):
        name = f"filling-{number}"
        result = cell.kubectl("create", "configmap", name, f"--from-literal=a={'x' * 10_000}", check=False)
        if result.returncode:
            return names, result
        names.add(name)
    raise AssertionError("the disk never became full")


@contextmanager
def _watch(cell: Cell) -> Iterator[subprocess.Popen[str]]:
    """`kubectl get configmaps --watch`, which has begun."""
    command = [kubectls()[-1], "get", "configmaps", "--watch", "-o", "name"]
    with subprocess.Popen(command, env=cell.environment, stdout=subprocess.PIPE, text=True) as watch:
        try:
            assert watch.stdout is not None
            assert watch.stdout.readline()
            yield watch
        finally:
            watch.kill()


def _waiting_job(directory: Path) -> str:
    """A Job whose container ends when there is a file `go`, and says so by removing it."""
    script = "echo here > /flags/here; until [ -e /flags/go ]; do sleep 0.02; done"
    container = {
        "name": "main",
        "image": "host",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "flags", "mountPath": "/flags"}],
    }
    volumes = [{"name": "flags", "hostPath": {"path": str(directory)}}]
    template = {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes}}
    spec = {"template": template, "backoffLimit": 0}
    return json.dumps({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "waits"}, "spec": spec})


def _container_process(cell: Cell) -> int:
    """A descriptor of the process of the only container."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                if b"/flags/go" in command and b"conmon" not in command and command.startswith(b"sh\0"):
                    return os.pidfd_open(int(entry.name))
            except OSError:
                continue
    raise AssertionError("no container runs")


def test_a_full_disk_costs_nothing_and_recovers(cell_on_small_disk: Cell, tmp_path: Path) -> None:
    cell, disk = cell_on_small_disk, cell_on_small_disk.data_dir.parent
    pid = cell.pid()
    cell.kubectl("create", "configmap", "before")
    cell.kubectl("apply", "-f", "-", stdin=_waiting_job(tmp_path))
    cell.kubectl("wait", "--for=jsonpath={.status.ready}=1", "job/waits", "--timeout=30s")

    with _watch(cell) as watch:
        ballast = _fill(disk)
        acknowledged, refusal = _write_until_refused(cell)
        assert "no space left" in refusal.stderr
        assert f"make room on the disk of {cell.data_dir}" in refusal.stderr
        assert cell.get("configmap", "before")["metadata"]["name"] == "before"

        (tmp_path / "program").write_text("x\n")
        run = cell.corral("run", "--", "true", cwd=tmp_path, check=False)
        assert run.returncode == 125, run
        assert "space" in run.stderr
        assert "Traceback" not in run.stderr

        # The container ends while nobody can write that down.
        process = _container_process(cell)
        (tmp_path / "go").touch()
        assert select.select([process], [], [], 10)[0]
        os.close(process)

        ballast.unlink()
        cell.kubectl("create", "configmap", "after")
        assert watch.stdout is not None
        assert any(line == "configmap/after\n" for line in watch.stdout)
    cell.kubectl("wait", "--for=condition=complete", "job/waits", "--timeout=60s")
    assert cell.corral("run", "-q", "--", "cat", "program", cwd=tmp_path).stdout == "x\n"
    assert cell.pid() == pid
    names = {item["metadata"]["name"] for item in cell.get("configmaps")["items"]}
    assert acknowledged | {"before", "after"} <= names


def test_a_source_that_does_not_fit_is_refused_by_name(cell_on_small_disk: Cell, tmp_path: Path) -> None:
    cell, disk = cell_on_small_disk, cell_on_small_disk.data_dir.parent
    (tmp_path / "big").write_bytes(os.urandom(8 << 20))
    ballast = _fill(disk, leave=4 << 20)
    run = cell.corral("run", "--", "true", cwd=tmp_path, check=False)
    assert run.returncode == 125, run
    assert "cannot store the source" in run.stderr
    assert "free some space" in run.stderr
    assert not list((cell.data_dir / "sources").glob("*")), "what was received of it stays behind"
    ballast.unlink()
    assert cell.corral("run", "-q", "--", "sh", "-c", "wc -c < big", cwd=tmp_path).stdout.strip() == str(8 << 20)


def test_a_cell_on_a_full_disk_does_not_start_and_says_why(cell_on_small_disk: Cell) -> None:
    cell, disk = cell_on_small_disk, cell_on_small_disk.data_dir.parent
    cell.kubectl("run", "stays", "--image=host", "--", "sleep", "1000")
    cell.kubectl("wait", "--for=condition=ready", "pod/stays", "--timeout=30s")
    before = cell.get("pod", "stays")["status"]["containerStatuses"][0]["containerID"]
    cell.corral("down", "--keep-containers")
    ballast = _fill(disk)
    result = cell.corral("up", "--detach", "--port", "0", check=False)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert str(cell.data_dir) in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    ballast.unlink()
    cell.up()
    cell.kubectl("wait", "--for=condition=ready", "pod/stays", "--timeout=30s")
    after = cell.get("pod", "stays")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before, 0)

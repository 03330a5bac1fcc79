"""What a crash must not cost: containers, log lines, exit codes, acknowledged writes."""

import os
import select
import signal
from pathlib import Path

from .conftest import Cell


def kill(cell: Cell) -> None:
    """SIGKILL the server process, and wait until it is gone."""
    pid = cell.pid()
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([descriptor], [], [], 10)[0]
    os.close(descriptor)


def test_a_killed_server_costs_no_container_no_line_and_no_exit_code(own_cell: Cell, tmp_path: Path) -> None:
    cell = own_cell
    ticker = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); sleep 0.02; done"
    cell.kubectl("run", "ticker", "--image=host", "--", "sh", "-c", ticker)
    cell.kubectl("create", "job", "short", "--image=host", "--", "sh", "-c", "sleep 2; echo done; exit 0")
    cell.kubectl("wait", "--for=condition=ready", "pod/ticker", "--timeout=30s")
    cell.kubectl("wait", "--for=jsonpath={.status.ready}=1", "job/short", "--timeout=30s")
    before = cell.get("pod", "ticker")["status"]["containerStatuses"][0]

    for _ in range(3):
        kill(cell)
        cell.up()
    cell.kubectl("wait", "--for=condition=complete", "job/short", "--timeout=30s")
    cell.kubectl("wait", "--for=condition=ready", "pod/ticker", "--timeout=30s")

    after = cell.get("pod", "ticker")["status"]["containerStatuses"][0]
    assert after["restartCount"] == 0
    assert after["containerID"] == before["containerID"]
    assert after["state"]["running"]["startedAt"] == before["state"]["running"]["startedAt"]
    assert cell.kubectl("logs", "job/short").stdout == "done\n"
    lines = [int(line) for line in cell.kubectl("logs", "ticker").stdout.split()]
    assert lines == list(range(len(lines)))
    assert len(lines) > 50


def test_acknowledged_writes_survive(own_cell: Cell) -> None:
    cell = own_cell
    for number in range(5):
        cell.kubectl("create", "configmap", f"c{number}", f"--from-literal=n={number}")
        kill(cell)
        cell.up()
    names = cell.kubectl("get", "cm", "-o", "name").stdout.split()
    assert {f"configmap/c{number}" for number in range(5)} <= set(names)


def test_down_stops_and_keeps_state(own_cell: Cell) -> None:
    cell = own_cell
    cell.kubectl("create", "deployment", "web", "--image=host", "--", "sleep", "1000")
    cell.kubectl("rollout", "status", "deployment/web", "--timeout=30s")
    assert "1 containers stopped" in cell.corral("down", "-t", "1").stdout
    assert not (cell.data_dir / "run" / "corral.pid").exists()
    cell.up()
    cell.kubectl("rollout", "status", "deployment/web", "--timeout=60s")


def test_down_can_leave_containers_running(own_cell: Cell) -> None:
    cell = own_cell
    cell.kubectl("run", "stays", "--image=host", "--", "sleep", "1000")
    cell.kubectl("wait", "--for=condition=ready", "pod/stays", "--timeout=30s")
    before = cell.get("pod", "stays")["status"]["containerStatuses"][0]["containerID"]
    cell.corral("down", "--keep-containers")
    cell.up()
    cell.kubectl("wait", "--for=condition=ready", "pod/stays", "--timeout=30s")
    after = cell.get("pod", "stays")["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before, 0)


def test_a_second_up_says_that_it_runs(own_cell: Cell) -> None:
    pid = own_cell.pid()
    result = own_cell.up()
    assert f"already runs (pid {pid})" in result.stdout
    assert own_cell.pid() == pid


def test_two_cells_side_by_side(own_cell: Cell, cell: Cell) -> None:
    for one in (own_cell, cell):
        one.kubectl("run", "same-name", "--image=host", "--restart=Never", "--", "sh", "-c", "sleep 0.5; echo mine")
    for one in (own_cell, cell):
        one.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/same-name", "--timeout=30s")
        assert one.kubectl("logs", "same-name").stdout == "mine\n"
        one.kubectl("delete", "pod", "same-name")


def test_a_port_in_use_is_named(own_cell: Cell, tmp_path: Path) -> None:
    port = own_cell.kubeconfig.read_text().split("https://127.0.0.1:")[1].split()[0]
    other = Cell(tmp_path / "other")
    result = other.corral("up", "--no-agent", "--port", port, check=False)
    assert result.returncode == 1
    assert f"port {port}" in result.stderr
    assert "Traceback" not in result.stderr

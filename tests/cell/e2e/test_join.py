"""A second machine joins the cell by the line that the cell prints, and works like the first."""

import json
import os
import re
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cell
from .sshd import Sshd, running_sshd


@pytest.fixture
def line(cell: Cell) -> list[str]:
    """The words of the line that `corral token create` prints, without `corral`."""
    return shlex.split(cell.corral("token", "create", "--ttl", "10m").stdout)[1:]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running_sshd(tmp_path_factory.mktemp("sshd"), port) as made:
        yield made


@pytest.fixture(scope="module")
def joined(cell: Cell, sshd: Sshd) -> Iterator[Path]:
    """The data directory of a machine that has joined over ssh."""
    with tempfile.TemporaryDirectory(prefix="corral-joined-") as name:
        options = ["--name", "second", "--address", "127.0.0.2", "--port", "0", "--data-dir", name]
        options += ["--labels", "disk=ssd", "--capacity", "cpu=3,memory=2Gi"]
        cell.corral("join", "--ssh", sshd.destination, *options, extra=sshd.environment)
        yield Path(name)
        sys.stderr.write((Path(name) / "log" / "corral.log").read_text())
        cell.corral("down", "--data-dir", name, "-t", "1")


def test_the_token_of_a_join_over_ssh_is_on_no_command_line_and_is_worth_nothing_afterwards(
    cell: Cell, sshd: Sshd, joined: Path
) -> None:
    words = sshd.words()
    assert words[words.index("--token") + 1] == "-"
    assert not [word for word in words if re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", word)]
    assert "corral join --ssh" not in cell.corral("token", "ls").stdout


def pod(name: str, script: str) -> str:
    container = {"name": "c", "image": "host", "command": ["sh", "-c", script]}
    spec = {"nodeSelector": {"disk": "ssd"}, "containers": [container], "terminationGracePeriodSeconds": 1}
    return json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec})


def test_a_joined_machine_runs_pods_and_survives_its_server(cell: Cell, joined: Path) -> None:
    machine: Any = cell.get("node", "second")
    assert machine["status"]["capacity"]["cpu"] == "3"
    cell.kubectl("apply", "-f", "-", stdin=pod("there", "echo hello; sleep 600"))
    cell.kubectl("wait", "--for=condition=Ready", "pod/there", "--timeout=30s")
    assert cell.kubectl("logs", "there").stdout == "hello\n"
    assert cell.kubectl("exec", "there", "--", "hostname").stdout == "there\n"
    os.kill(cell.pid(), signal.SIGKILL)
    cell.up()
    cell.kubectl("wait", "--for=condition=Ready", "node/second", "--timeout=60s")
    found: Any = cell.get("pod", "there")
    assert found["status"]["containerStatuses"][0]["restartCount"] == 0
    cell.kubectl("delete", "pod", "there")


def test_a_program_and_its_files_travel_there_and_back(cell: Cell, joined: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('open("out.txt", "w").write("made there")')
    cell.corral("machine", "cordon", _first(cell))
    try:
        ran = cell.corral("run", "--get", "out.txt", "--", "python3", "a.py", cwd=tmp_path)
        assert "on machine second" in ran.stderr
        assert (tmp_path / "out.txt").read_text() == "made there"
    finally:
        cell.corral("machine", "uncordon", _first(cell))


def _first(cell: Cell) -> str:
    names: list[str] = [node["metadata"]["name"] for node in cell.get("nodes")["items"]]
    return next(name for name in names if name != "second")


@pytest.mark.parametrize(
    ("place", "word", "said"),
    [
        ("--token", "aaaaaa.bbbbbbbbbbbbbbbb", "token: it is unknown"),
        ("--ca-hash", "sha256:" + "0" * 64, "CA hash: the hash of the authority"),
        ("--ca-hash", "", "--ca-hash sha256:"),
    ],
)
def test_what_is_wrong_is_named(cell: Cell, line: list[str], tmp_path: Path, place: str, word: str, said: str) -> None:
    line[line.index(place) + 1] = word
    refused = cell.corral(*line, "--data-dir", str(tmp_path), "--name", "third", check=False)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "remedy:" in refused.stderr


def test_the_name_of_a_living_machine_is_taken(cell: Cell, line: list[str], tmp_path: Path) -> None:
    refused = cell.corral(*line, "--data-dir", str(tmp_path), "--name", _first(cell), check=False)
    assert "the cell has a machine called" in refused.stderr


def test_a_machine_that_is_removed_stops_its_pods_and_stays_away(cell: Cell, joined: Path) -> None:
    cell.kubectl("apply", "-f", "-", stdin=pod("there", "sleep 600"))
    cell.kubectl("wait", "--for=condition=Ready", "pod/there", "--timeout=30s")
    agent = int((joined / "run" / "corral.pid").read_text())
    removing = cell.corral("machine", "remove", "--force", "second")
    assert "until it has surely stopped its pods" in removing.stderr
    assert not Path(f"/proc/{agent}").exists()
    assert not list((joined / "agent").glob("**/containers/*/pid"))
    assert "second was removed from the cell" in (joined / "log" / "corral.log").read_text()
    assert "second" not in {node["metadata"]["name"] for node in cell.get("nodes")["items"]}
    again = cell.corral("join", "--data-dir", str(joined), check=False)
    assert (again.returncode, "use a new line" in again.stderr) == (1, True)

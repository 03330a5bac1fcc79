"""`corral run` and its companions, as a person uses them, on real containers."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cell

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "hello.txt").write_text("hello\n")
    return tmp_path


def test_output_goes_where_the_program_sent_it(cell: Cell, project: Path) -> None:
    result = cell.corral("run", "--", "sh", "-c", "cat hello.txt; echo oops >&2; exit 3", cwd=project, check=False)
    assert result.returncode == 3
    assert result.stdout == "hello\n"
    assert "oops\n" in result.stderr
    assert re.search(r"ran on machine \S+: queue .*, image .*, start .*, run ", result.stderr)


def test_quiet_says_nothing_but_the_output(cell: Cell, project: Path) -> None:
    result = cell.corral("run", "-q", "--", "cat", "hello.txt", cwd=project)
    assert (result.stdout, result.stderr) == ("hello\n", "")


def test_the_program_is_where_its_files_are(cell: Cell, project: Path) -> None:
    assert cell.corral("run", "-q", "--", "pwd", cwd=project).stdout == "/work\n"


def test_files_come_back(cell: Cell, project: Path) -> None:
    script = "mkdir -p out/deep; cat hello.txt > out/copy; echo x > out/deep/y"
    cell.corral("run", "--get", "out/", "--", "sh", "-c", script, cwd=project)
    assert (project / "out" / "copy").read_text() == "hello\n"
    assert (project / "out" / "deep" / "y").read_text() == "x\n"


def test_arguments_and_environment_arrive_unchanged(cell: Cell, project: Path) -> None:
    script = 'echo "$A|$1|$$" | sed "s/[0-9]*$/pid/"'
    result = cell.corral("run", "-q", "-e", "A=$(HOME) $$ x", "--", "sh", "-c", script, "sh", "$(A) *", cwd=project)
    assert result.stdout == "$(HOME) $$ x|$(A) *|pid\n"


def test_standard_input_arrives(cell: Cell, project: Path) -> None:
    result = cell.corral("run", "-q", "-i", "--", "sh", "-c", "sleep 0.5; tr a-z A-Z", cwd=project, stdin="abc\n")
    assert result.stdout == "ABC\n"


def test_ignored_files_stay(cell: Cell, project: Path) -> None:
    (project / ".gitignore").write_text("secret\n")
    (project / "secret").write_text("s")
    assert "secret" not in cell.corral("run", "-q", "--", "ls", cwd=project).stdout.split()


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [(["no-such-program"], 127, "not found"), (["./hello.txt"], 126, "permission denied")],
)
def test_programs_that_cannot_run(cell: Cell, project: Path, argv: list[str], code: int, word: str) -> None:
    result = cell.corral("run", "--", *argv, cwd=project, check=False)
    assert result.returncode == code, result.stderr
    assert word in result.stderr


def test_an_image_that_does_not_exist(cell: Cell, project: Path) -> None:
    result = cell.corral("run", "--rm", "--image", "localhost:1/none:x", "--", "true", cwd=project, check=False)
    assert result.returncode == 125
    assert "localhost:1/none:x" in result.stderr


def test_too_much_memory_is_said(cell: Cell, project: Path) -> None:
    eat = "x = bytearray(200_000_000); print(len(x))"
    result = cell.corral("run", "--memory", "64Mi", "--", "python3", "-c", eat, cwd=project, check=False)
    assert result.returncode == 137
    assert "--memory" in result.stderr


def test_detached_listed_read_and_stopped(cell: Cell, project: Path) -> None:
    name = cell.corral("run", "-d", "--", "sh", "-c", "echo started; sleep 1000", cwd=project).stdout.strip()
    follower = (
        subprocess.Popen(
            [sys.executable, "-m", "corral", "logs", "-f", name],
            env=cell.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        if _running(cell, name)
        else None
    )
    assert follower is not None
    assert follower.stdout is not None
    assert follower.stdout.readline() == "started\n"
    assert name in cell.corral("ps", "-q").stdout.split()
    assert cell.corral("exec", name, "--", "cat", "/work/hello.txt").stdout == "hello\n"
    assert cell.corral("exec", name, "--", "sh", "-c", "exit 5", check=False).returncode == 5
    assert cell.corral("stop", "-t", "1", name).stdout.strip() == name
    assert follower.wait(20) == 0
    follower.stdout.close()
    assert name not in cell.corral("ps", "-a", "-q").stdout.split()


def _running(cell: Cell, name: str) -> bool:
    cell.kubectl("wait", "--for=jsonpath={.status.ready}=1", f"job/{name}", "--timeout=30s")
    return True


def test_interrupt_stops_without_a_terminal(cell: Cell, project: Path) -> None:
    command = [sys.executable, "-m", "corral", "run", "--name", "interrupted", "--", "sh", "-c", "echo on; sleep 1000"]
    with subprocess.Popen(
        command, env=cell.environment, cwd=project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "on\n"
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
    assert cell.kubectl("get", "job", "interrupted", check=False).returncode == 1


def test_why_explains_machine_by_machine(cell: Cell, project: Path) -> None:
    name = cell.corral("run", "-d", "--cpu", "1000", "--", "true", cwd=project).stdout.strip()
    cell.kubectl(
        "wait",
        "--for=condition=PodScheduled=false",
        "pod",
        "-l",
        f"batch.kubernetes.io/job-name={name}",
        "--timeout=20s",
    )
    said = cell.corral("why", name).stdout
    assert "Insufficient cpu" in said
    assert "none of 1 machine takes it" in said
    cell.corral("stop", name)


def test_the_machines_secrets_are_not_in_the_host_image(cell: Cell, project: Path) -> None:
    script = (
        "ls -A /root /home; cat /etc/shadow /root/.ssh/id_rsa /etc/ssh/ssh_host_rsa_key 2>&1; grep -c : /etc/passwd"
    )
    result = cell.corral("run", "-q", "--", "sh", "-c", script, cwd=project)
    assert result.stdout.count("No such file") == 3, result.stdout
    assert int(result.stdout.split()[-1]) <= 5


def test_a_typo_gets_the_name_meant(cell: Cell, project: Path) -> None:
    cell.corral("run", "-d", "--name", "fine-name", "--", "true", cwd=project)
    result = cell.corral("logs", "fine-nane", check=False)
    assert result.returncode == 125
    assert "did you mean fine-name" in result.stderr
    cell.corral("stop", "fine-name")


def test_status_is_data_too(cell: Cell) -> None:
    status = json.loads(cell.corral("status", "-o", "json").stdout)
    assert [machine["ready"] for machine in status["machines"]] == [True]


def test_the_batch_example(cell: Cell, tmp_path: Path) -> None:
    (tmp_path / "imports.py").write_text((ROOT / "examples" / "batch" / "imports.py").read_text())
    result = cell.corral("run", "--get", "out", "--", "python3", "imports.py", cwd=tmp_path)
    assert "the ten most wanted" in result.stdout
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "imports.csv").read_text())))
    assert len(rows) > 20
    assert int(rows[0]["imports"]) >= int(rows[1]["imports"])

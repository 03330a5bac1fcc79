"""A whole cell of its own, started as a person starts it, for the tests of this directory."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from corral.app.config import CellConfig

from ..conftest import state

Result = subprocess.CompletedProcess[str]


def kubectls() -> list[str]:
    """Every kubectl on this machine: the one on PATH, and the versioned ones beside it."""
    found = shutil.which("kubectl")
    if found is None:
        return []
    versioned = sorted(str(path) for path in Path(found).resolve().parent.glob("kubectl.1.*"))
    return versioned or [found]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell in the background, and the commands that a person has for it."""

    data_dir: Path

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
        return {**clean, "KUBECONFIG": str(self.kubeconfig), "CORRAL_DATA_DIR": str(self.data_dir), "NO_COLOR": "1"}

    def corral(
        self,
        *arguments: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 60,
        extra: Mapping[str, str] | None = None,
    ) -> Result:
        """Run `corral` against this cell, with `extra` in its environment."""
        command = [sys.executable, "-m", "corral", *arguments]
        return self._run(command, cwd, stdin, check, timeout, extra or {})

    def kubectl(self, *arguments: str, binary: str = "", stdin: str | None = None, check: bool = True) -> Result:
        """Run kubectl against this cell; skips the test where there is none."""
        binaries = kubectls()
        if not binaries:
            pytest.skip("no kubectl on this machine")
        return self._run([binary or binaries[-1], *arguments], None, stdin, check, 90, {})

    def get(self, *arguments: str) -> Any:
        """`kubectl get -o json` as data."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def pid(self) -> int:
        """Of the server process."""
        return int((self.data_dir / "run" / "corral.pid").read_text())

    def up(self, *arguments: str) -> Result:
        """`corral up --detach`; the port is kept over restarts, because the kubeconfig names it."""
        port = "0"
        if self.kubeconfig.exists():
            port = self.kubeconfig.read_text().split("https://127.0.0.1:")[1].split()[0]
        return self.corral("up", "--detach", "--port", port, *arguments)

    def _run(
        self,
        command: Sequence[str],
        cwd: Path | None,
        stdin: str | None,
        check: bool,
        timeout: float,
        extra: Mapping[str, str],
    ) -> Result:
        result = subprocess.run(
            command,
            cwd=cwd,
            input=stdin,
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and result.returncode:
            raise AssertionError(f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result


def new_cell() -> Iterator[Cell]:
    """A fresh cell in a directory with a short path (unix sockets have a limit), taken down and removed afterwards."""
    if os.geteuid() != 0:
        pytest.skip("a cell with an agent needs root")
    directory = Path(tempfile.mkdtemp(prefix="cr"))
    cell = Cell(directory / "c")
    try:
        cell.up()
        yield cell
    finally:
        cell.corral("down", "-t", "1", check=False)
        log = cell.data_dir / "log" / "corral.log"
        sys.stderr.write(log.read_text() if log.exists() else "no log\n")
        left = leftovers(cell)
        shutil.rmtree(directory)
    assert not left, f"the cell left behind: {left}"


def leftovers(cell: Cell) -> dict[str, set[str]]:
    """What of a cell that is down is still on the machine."""
    name = CellConfig(cell.data_dir).name
    found = {
        kind: {what for what in names if name in what or str(cell.data_dir) in what} for kind, names in state().items()
    }
    return {kind: names for kind, names in found.items() if names}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """The cells here outlive a test; what each leaves is looked for when it goes down."""


@pytest.fixture(scope="session")
def cell() -> Iterator[Cell]:
    """One cell for all tests that leave it as it was."""
    yield from new_cell()


@pytest.fixture
def own_cell() -> Iterator[Cell]:
    """A cell for one test that breaks it."""
    yield from new_cell()

"""`corral up` without an agent, as a person starts it, on data directories that a test breaks."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]

_DETACH = 2  # MNT_DETACH: also when a failed test left a file open
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A data directory and the commands for it."""

    data_dir: Path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "corral", *arguments, "--data-dir", str(self.data_dir)]

    def environment(self, **more: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
        return {**clean, "NO_COLOR": "1", **more}

    def run(self, *arguments: str, **environment: str) -> Result:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def up(self, *arguments: str) -> Result:
        """`corral up --detach` on a free port, without an agent."""
        return self.run("up", "--detach", "--no-agent", "--port", "0", "--bind", "127.0.0.1", *arguments)

    def down(self) -> Result:
        return self.run("down")


@pytest.fixture(scope="session")
def finished_cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a cell that has run and ended well; copy it."""
    place = Place(tmp_path_factory.mktemp("finished") / "c")
    started = place.up()
    assert started.returncode == 0, started.stderr
    assert place.down().returncode == 0
    return place.data_dir


@pytest.fixture
def place(tmp_path: Path, finished_cell: Path) -> Iterator[Place]:
    """A copy of a cell that has run, for the test to break."""
    found = Place(tmp_path / "c")
    shutil.copytree(finished_cell, found.data_dir)
    yield found
    found.down()


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many megabytes, and unmounts them."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        path = Path(tempfile.mkdtemp(prefix="cr"))
        if _libc.mount(b"corral-test", str(path).encode(), b"tmpfs", 0, b"size=%dm" % megabytes) != 0:
            path.rmdir()
            pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        if _libc.umount2(str(path).encode(), _DETACH) != 0:
            raise OSError(ctypes.get_errno(), f"cannot unmount {path}")
        path.rmdir()


def fill(directory: Path, leave: int = 0) -> Path:
    """Take all space of the file system but `leave` bytes, to the last page; returns the file that holds it."""
    ballast = directory / "ballast"
    disk = os.statvfs(directory)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave))
    return ballast

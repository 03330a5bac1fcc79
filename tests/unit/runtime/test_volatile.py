"""What agents keep in memory is theirs until their directory is gone, and nobody watches any more."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from corral.agent.runtime import volatile
from corral.agent.runtime.oci.state import Layout


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(volatile, "RUN", tmp_path / "run")
    return tmp_path / "run"


def killed(directory: Path) -> None:
    """An agent of `directory` was killed while a container ran."""
    layout = Layout(directory)
    layout.make()
    (layout.exits / "c").write_text("0")
    (layout.containers / "c").mkdir()
    volatile.fence(directory).write_text("{}")


def test_the_next_agent_finds_what_a_killed_one_left(run: Path, tmp_path: Path) -> None:
    killed(tmp_path / "a")
    left = set(run.iterdir())
    Layout(tmp_path / "a").make()
    Layout(tmp_path / "a").leave()
    assert set(run.iterdir()) == left, "a container may still need it"
    assert (Layout(tmp_path / "a").exits / "c").read_text() == "0"


def test_an_agent_of_another_directory_removes_what_belongs_to_nobody(run: Path, tmp_path: Path) -> None:
    for name in "abc":
        killed(tmp_path / name)
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    pid = Path(f"{volatile.fence(tmp_path / 'b')}.pid")
    pid.write_text(str(os.getpid()))
    watched = set(run.glob(f"*{pid.name.removeprefix('fence-').partition('.')[0]}*"))
    Layout(tmp_path / "c").make()
    assert not volatile.exits(tmp_path / "a").exists()
    assert not volatile.fence(tmp_path / "a").exists()
    assert volatile.fence(tmp_path / "c").exists()
    assert watched <= set(run.iterdir()), "its watchman still has to kill"

    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    pid.write_text(str(ended.pid))
    Layout(tmp_path / "c").make()
    assert not watched & set(run.iterdir())


def test_a_directory_that_cannot_be_looked_at_is_not_gone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path / "a")
    killed(tmp_path / "b")
    left = set(run.iterdir())

    stat = Path.stat

    def fail(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name.startswith("of-"):
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, follow_symlinks=follow_symlinks)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        volatile.sweep()
    assert set(run.iterdir()) == left


def test_who_ends_in_order_leaves_nothing(run: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "a")
    layout.make()
    volatile.fence(tmp_path / "a").write_text("{}")
    layout.leave()
    assert {path.name.partition("-")[0] for path in run.iterdir()} == {"fence", "of"}, "its fence tells the watchman"
    volatile.fence(tmp_path / "a").unlink()
    layout.leave()
    assert not run.exists()

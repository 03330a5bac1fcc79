"""Whole cells to be broken: the fixtures of the end-to-end tests, and a cell on a small disk."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..e2e.conftest import Cell, leftovers, nothing_left_behind, own_cell

__all__ = ["nothing_left_behind", "own_cell"]

_MEGABYTES = 64


@pytest.fixture
def cell_on_small_disk() -> Iterator[Cell]:
    """A cell whose data directory is a file system of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("a cell with an agent needs root")
    disk = Path(tempfile.mkdtemp(prefix="cr"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "corral-test", str(disk)], check=True)
    cell = Cell(disk / "c")
    try:
        cell.up()
        yield cell
    finally:
        (disk / "ballast").unlink(missing_ok=True)
        cell.corral("down", "-t", "1", check=False)
        log = cell.data_dir / "log" / "corral.log"
        sys.stderr.write(log.read_text() if log.exists() else "no log\n")
        left = leftovers(cell)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(disk)
    assert not left, f"the cell left behind: {left}"

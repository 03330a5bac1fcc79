"""Whatever a test with real containers does, the machine is afterwards as it was before."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.testing.ending import end_as_by_ctrl_c

_PATIENCE = 10.0
"""Seconds: the kernel takes network namespaces and their devices down behind our back."""


@pytest.fixture(scope="session", autouse=True)
def told_to_end() -> None:
    """Who ends the tests early (a time-out, a CI that cancels) leaves no cell behind either."""
    end_as_by_ctrl_c()


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {fields[4] for fields in (line.split() for line in lines)}


def _cgroups() -> set[str]:
    root = Path("/sys/fs/cgroup")
    return {str(path) for path in [*root.glob("corral-*"), *root.glob("*/corral-*")]}


def _links() -> set[str]:
    listed = subprocess.run(["ip", "-j", "link"], check=True, capture_output=True)
    return {link["ifname"] for link in json.loads(listed.stdout)}


def _tables() -> set[str]:
    listed = subprocess.run(["nft", "-j", "list", "tables"], check=False, capture_output=True)
    if listed.returncode:
        return set()
    tables = (entry["table"]["name"] for entry in json.loads(listed.stdout)["nftables"] if "table" in entry)
    return {name for name in tables if name.startswith("corral")}


def _rules() -> set[str]:
    """Rules that lead to a cell's own routing table."""
    listed = subprocess.run(["ip", "-j", "rule"], check=True, capture_output=True)
    return {str(rule["table"]) for rule in json.loads(listed.stdout) if rule.get("protocol") == "67"}


def _monitors() -> set[str]:
    """Processes that hold containers, or are containers: whatever is conmon's, and its children."""
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                command = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0].endswith(b"conmon"):
                found.add(f"{entry.name} {b' '.join(command[:8]).decode(errors='replace')}")
    return found


def state() -> dict[str, set[str]]:
    """What of ours the machine holds now, by sort."""
    return {
        "mounts": _mounts(),
        "control groups": _cgroups(),
        "network links": {name for name in _links() if name.startswith(("corral", "cvx", "veth"))},
        "nftables": _tables(),
        "routing rules": _rules(),
        "monitors": _monitors(),
    }


def _left(before: dict[str, set[str]], only: Path) -> dict[str, set[str]]:
    """What is here now and was not before."""
    now = state()
    fresh = {kind: now[kind] - before[kind] for kind in now}
    if os.environ.get("CORRAL_SHARED_MACHINE"):
        fresh = {kind: {name for name in fresh[kind] if str(only) in name} for kind in ("mounts", "monitors")}
    return {kind: names for kind, names in fresh.items() if names}


@pytest.fixture
def cell_directory() -> Iterator[Path]:
    """A directory with a short path (unix sockets have short names), removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def nothing_left_behind(cell_directory: Path) -> Iterator[None]:
    """Fails the test that leaves a mount, a control group, a network device, a rule or a monitor behind.

    Where somebody else runs cells on this machine at the same time (CORRAL_SHARED_MACHINE is set), only what is below
    the test's own directory counts.
    """
    before = state()
    yield
    deadline = time.monotonic() + _PATIENCE
    while (found := _left(before, cell_directory)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not found, f"left behind: { {kind: sorted(names) for kind, names in found.items()} }"

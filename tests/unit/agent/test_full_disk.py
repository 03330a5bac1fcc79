"""An agent whose own disk is full: pods run on, it says so, it goes on renewing, and it recovers by itself."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from corral.agent import mounts
from corral.agent.agent import Agent
from corral.kinds.types import Obj

_MEGABYTES = 8
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1"


class Disk:
    """A small file system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    def fill(self) -> None:
        """Leave not one byte, and no room for a name."""
        state = os.statvfs(self.directory)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize)
        with pytest.raises(OSError, match="No space left"):
            (self.directory / "more").write_text("x" * 10_000)
        (self.directory / "more").unlink(missing_ok=True)

    def free(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "corral-test", str(directory)], check=True)
    yield Disk(directory)
    mounts.unmount_below(directory)


@pytest.fixture
async def agent(rig: Any, disk: Disk) -> AsyncIterator[Agent]:
    await rig.agent.stop()
    rig.directory = disk.directory / "agent"
    rig.agent = rig.build()
    await rig.agent.start()
    yield rig.agent
    await rig.agent.stop()


def condition(rig: Any, type_: str) -> Obj:
    node = rig.api.objects["/api/v1/nodes/m1"]
    found: Obj = next(one for one in node["status"]["conditions"] if one["type"] == type_)
    return found


async def test_pods_run_on_and_all_of_it_is_told(rig: Any, agent: Agent, disk: Disk) -> None:
    rig.add_pod("runs")
    rig.add_pod("crashes")
    await rig.settled()
    assert condition(rig, "DiskPressure")["status"] == "False"
    run = rig.main("runs")["containerID"]

    disk.fill()
    rig.runtime.finish(rig.main("crashes")["containerID"].removeprefix("corral://"), 1)
    await rig.advance(30)
    assert condition(rig, "DiskPressure")["status"] == "True"
    assert "0 of 8Mi (0%) left" in condition(rig, "DiskPressure")["message"]
    assert condition(rig, "ReadonlyFilesystem")["status"] == "False", "full is not broken"
    assert (rig.status("runs")["phase"], rig.main("runs")["containerID"]) == ("Running", run)
    rig.add_pod("comes")
    await rig.settled()
    assert rig.status("comes")["message"] == "The node had condition: [DiskPressure]. "
    renewed = rig.api.objects[LEASE]["spec"]["renewTime"]
    await rig.advance(30)
    assert rig.api.objects[LEASE]["spec"]["renewTime"] > renewed

    disk.free()
    await rig.advance(90)
    assert condition(rig, "DiskPressure")["status"] == "False"
    assert (rig.main("crashes")["restartCount"], rig.main("crashes")["ready"]) == (1, True)
    assert rig.main("runs")["containerID"] == run
    told = {reason for reason, _ in rig.events()}
    assert {"NodeHasDiskPressure", "NodeHasNoDiskPressure"} <= told
    assert [rig.status(name)["phase"] for name in ("runs", "crashes", "comes")] == ["Running", "Running", "Failed"]

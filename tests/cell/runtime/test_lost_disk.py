"""A disk that the kernel has made read-only: what runs on it can be ended, or its successor would wait for ever."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.agent.runtime.api import ContainerState
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import make_pod

from .conftest import MakeRuntime


class Disk:
    """A small ext4 file system at `directory`."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.directory = directory
        image.touch()
        os.truncate(image, 64 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        options = ["-o", "loop,errors=remount-ro"]
        if subprocess.run(["mount", *options, str(image), str(directory)], check=False).returncode:
            pytest.skip("this machine mounts no ext4 from a file")

    def lose(self) -> None:
        """Have the kernel give it up."""
        argv = ["findmnt", "-no", "SOURCE", str(self.directory)]
        source = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        Path("/sys/fs/ext4", Path(source).name, "trigger_fs_error").write_text("1")
        with pytest.raises(OSError, match="Read-only"):
            (self.directory / "new").touch()


@pytest.fixture
def disk(cell_directory: Path, tmp_path: Path) -> Iterator[Disk]:
    made = Disk(cell_directory, tmp_path / "image")
    yield made
    subprocess.run(["umount", "--recursive", "--lazy", str(cell_directory)], check=True)


@pytest.fixture
async def runtime(disk: Disk, make_runtime: MakeRuntime) -> OciRuntime:
    runtime = make_runtime()
    await runtime.open()
    return runtime


async def test_a_pod_ends_although_nothing_can_be_written(runtime: OciRuntime, disk: Disk, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    run = pod.spec("sleep", "inf")
    container = await pod.run(run)
    disk.lose()
    try:
        async with asyncio.timeout(10):
            await runtime.stop_container(run.id, 0.1)
            assert (await pod.find(run)).state is ContainerState.EXITED
            await runtime.remove_sandbox(pod.sandbox.id)
        assert not await runtime.sandboxes()
        assert not await runtime.containers()
        assert not Path(f"/proc/{container.pid}").exists()
    finally:
        await runtime.destroy_network()
        await runtime.close()

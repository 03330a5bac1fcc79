"""A pod removed at any moment of its start leaves nothing behind (the folder's fixture looks at the machine)."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from corral.agent.runtime.api import RuntimeFailure, SandboxSpec
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import Pod, make_pod


@pytest.fixture
async def pod(runtime: OciRuntime, tmp_path: Path) -> Pod:
    return await make_pod(runtime, tmp_path)


async def _begun(work: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
    """`work`, a little under way."""
    task = asyncio.ensure_future(work)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def _nothing_is_left(runtime: OciRuntime, directory: Path) -> None:
    assert not await runtime.sandboxes()
    assert not await runtime.containers()
    for name in ("sandboxes", "containers"):
        assert list((directory / name).iterdir()) == []
    assert list((directory / "network").rglob("10.*")) == []


async def test_while_its_sandbox_is_made(runtime: OciRuntime, cell_directory: Path) -> None:
    spec = SandboxSpec("s", "u", "default", "pod", "pod", share_process_namespace=True)
    for cancelled in (False, True):
        making = await _begun(runtime.create_sandbox(spec))
        if cancelled:
            making.cancel()
        await runtime.remove_sandbox("s")
        await asyncio.gather(making, return_exceptions=True)
        await runtime.remove_sandbox("s")
        await _nothing_is_left(runtime, cell_directory)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_while_its_container_is_made(
    runtime: OciRuntime, pod: Pod, cell_directory: Path, cancelled: bool
) -> None:
    making = await _begun(runtime.create_container(pod.spec("sleep", "inf")))
    if cancelled:
        making.cancel()
    await runtime.remove_sandbox(pod.sandbox.id)
    await asyncio.gather(making, return_exceptions=True)
    await _nothing_is_left(runtime, cell_directory)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_while_its_container_is_started(
    runtime: OciRuntime, pod: Pod, cell_directory: Path, cancelled: bool
) -> None:
    spec = pod.spec("sleep", "inf")
    await runtime.create_container(spec)
    starting = await _begun(runtime.start_container(spec.id))
    if cancelled:
        starting.cancel()
    await runtime.remove_sandbox(pod.sandbox.id)
    await asyncio.gather(starting, return_exceptions=True)
    await _nothing_is_left(runtime, cell_directory)


async def test_a_container_whose_making_was_broken_off_can_be_made(runtime: OciRuntime, pod: Pod) -> None:
    spec = pod.spec("true")
    making = await _begun(runtime.create_container(spec))
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    await pod.run(spec)
    assert (await pod.finished(spec)).exit_code == 0


async def test_nothing_is_made_in_a_sandbox_that_goes(runtime: OciRuntime, pod: Pod) -> None:
    going = await _begun(runtime.remove_sandbox(pod.sandbox.id))
    with pytest.raises(RuntimeFailure, match="its sandbox is gone"):
        await runtime.create_container(pod.spec("true"))
    await going

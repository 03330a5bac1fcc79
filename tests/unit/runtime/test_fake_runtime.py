"""The runtime in memory conforms, and does what tests ask of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import ContainerState, RuntimeFailure
from corral.base.clock import SystemClock
from corral.testing.fake_process import FakeProcess
from corral.testing.fake_runtime import FakeRuntime
from corral.testing.runtime_suite import Pod, RuntimeSuite, make_pod


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[FakeRuntime]:
    runtime = FakeRuntime(SystemClock(), tmp_path / "fake")
    await runtime.open()
    yield runtime
    runtime.stop_all()
    await asyncio.sleep(0)


class TestConformance(RuntimeSuite):
    shell = False


async def test_a_scripted_end(runtime: FakeRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = pod.spec("sleep", "inf")
    await pod.run(spec)
    runtime.finish(spec.id, 137, oom_killed=True)
    ended = await pod.finished(spec)
    assert (ended.exit_code, ended.oom_killed) == (137, True)


async def test_a_scripted_failure_comes_once(runtime: FakeRuntime, tmp_path: Path) -> None:
    runtime.fail("create_sandbox", RuntimeFailure("NetworkNotReady", "cannot"))
    with pytest.raises(RuntimeFailure):
        await make_pod(runtime, tmp_path)
    await make_pod(runtime, tmp_path)


async def test_a_program_of_the_test(runtime: FakeRuntime, tmp_path: Path) -> None:
    async def greet(process: FakeProcess) -> int:
        await process.write(f"hello {process.env['WHO']}\n".encode())
        return 5

    runtime.programs["greet"] = greet
    pod = await make_pod(runtime, tmp_path)
    spec = replace(pod.spec("greet"), env=(("WHO", "you"),))
    await pod.run(spec)
    assert (await pod.finished(spec)).exit_code == 5
    assert pod.log(spec) == ["stdout F hello you"]


async def test_a_reboot_leaves_records_only(runtime: FakeRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = pod.spec("sleep", "inf")
    await pod.run(spec)
    runtime.reboot()
    assert not (await runtime.sandboxes())[0].ready
    assert (await Pod(runtime, pod.sandbox, tmp_path).finished(spec)).state is ContainerState.EXITED


async def test_an_image_has_to_be_pulled_first(runtime: FakeRuntime) -> None:
    runtime.images.add("busybox:1", {"Cmd": ["sh"]}, remote=True)
    assert await runtime.images.status("busybox:1") is None
    await runtime.images.pull("busybox:1")
    assert await runtime.images.status("busybox:1") is not None
    with pytest.raises(RuntimeFailure, match="manifest unknown"):
        await runtime.images.pull("nothing:1")

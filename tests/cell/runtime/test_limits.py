"""Limits are enforced by the kernel, and what happened is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import Resources, SandboxSpec
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import Pod, make_pod


@pytest.fixture
async def pod(runtime: OciRuntime, tmp_path: Path) -> Pod:
    return await make_pod(runtime, tmp_path)


async def test_a_container_that_eats_too_much_is_killed_and_said_so(pod: Pod) -> None:
    spec = replace(pod.spec("tail", "/dev/zero"), resources=Resources(memory_limit=32 << 20))
    await pod.run(spec)
    container = await pod.finished(spec)
    assert (container.exit_code, container.oom_killed) == (137, True)


async def test_the_pods_own_limit_holds_for_all_its_containers(runtime: OciRuntime, tmp_path: Path) -> None:
    pod = await make_pod(
        runtime, tmp_path, SandboxSpec("", "", "default", "pod", "pod", memory_limit=32 << 20, cpu_weight=512)
    )
    spec = pod.spec("tail", "/dev/zero")
    await pod.run(spec)
    assert (await pod.finished(spec)).oom_killed


async def test_a_container_may_have_only_so_many_processes(pod: Pod) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo started"
    spec = replace(pod.spec("sh", "-c", script), resources=Resources(pids_limit=5))
    await pod.run(spec)
    assert (await pod.finished(spec)).exit_code == 2
    assert any("fork" in line for line in pod.log(spec))


async def test_what_a_container_uses_is_measured(runtime: OciRuntime, pod: Pod) -> None:
    spec = replace(pod.spec("sleep", "inf"), resources=Resources(cpu_shares=256, cpu_quota=50_000, cpuset="0"))
    await pod.run(spec)
    usage = await runtime.usage(spec.id)
    assert usage is not None
    assert usage.cpu_ns > 0
    assert usage.memory_bytes >= usage.working_set_bytes > 0
    assert usage.pids == 1


async def test_a_lower_limit_takes_effect_at_once(runtime: OciRuntime, pod: Pod) -> None:
    spec = replace(pod.spec("sh", "-c", "read line; exec tail /dev/zero"), stdin=True)
    await pod.run(spec)
    await runtime.update_resources(spec.id, Resources(memory_limit=24 << 20, pids_limit=50, cpu_quota=80_000))
    process = await runtime.attach(spec.id, stdin=True)
    await process.write_stdin(b"go\n")
    assert (await pod.finished(spec)).oom_killed
    await process.close()

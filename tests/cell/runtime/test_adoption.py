"""An agent that dies leaves its containers alone, and the next one knows all about them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import ContainerState, RuntimeFailure, SandboxSpec
from corral.agent.runtime.oci import OciRuntime
from corral.testing.runtime_suite import PATIENCE, Pod, make_pod, until

_AGENT = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from corral.agent.runtime.api import ContainerSpec, SandboxSpec
from corral.agent.runtime.oci import OciRuntime, choose
from corral.base.clock import SystemClock

async def main(directory, script):
    network = replace(choose(directory.name), assigned=True)
    runtime = OciRuntime(directory, network=network, clock=SystemClock(), cell=directory.name)
    await runtime.open()
    await runtime.create_sandbox(SandboxSpec("s", "u", "default", "pod", "pod"))
    spec = ContainerSpec("s-c", "s", "main", 0, "host", ("sh", "-c", script), stdin=True, log_path=f"{directory}/log")
    await runtime.create_container(spec)
    await runtime.create_container(ContainerSpec("s-d", "s", "other", 0, "host", ("true",)))
    await runtime.start_container("s-c")
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""

_TALK = "trap 'exit 4' TERM; echo first; read line; echo $line; read line; exit 5"


async def _agent(directory: Path, script: str) -> asyncio.subprocess.Process:
    """An agent of its own process that has started a container."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(directory), script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    return process


async def test_a_container_outlives_its_agent(next_agent: OciRuntime, cell_directory: Path) -> None:
    agent = await _agent(cell_directory, _TALK)
    os.killpg(agent.pid, signal.SIGKILL)
    await agent.wait()
    await next_agent.open()
    running, created = await next_agent.containers()
    assert (running.state, created.state) == (ContainerState.RUNNING, ContainerState.CREATED)
    exits = next_agent.exits()
    process = await next_agent.attach("s-c", stdin=True)
    await process.write_stdin(b"second\n")
    await until(process.stdout(), b"second\n")
    await process.write_stdin(b"end\n")
    async with asyncio.timeout(PATIENCE):
        ended = await anext(exits)
    await process.close()
    assert (ended.exit_code, ended.started) == (5, running.started)
    lines = (cell_directory / "log").read_text().splitlines()
    assert [line.split(" ")[3] for line in lines] == ["first", "second"]
    assert (await next_agent.sandboxes())[0].ready
    assert (await next_agent.start_container("s-d")).state is not ContainerState.CREATED


async def test_an_end_that_nobody_saw_is_not_lost(next_agent: OciRuntime, cell_directory: Path) -> None:
    agent = await _agent(cell_directory, _TALK)
    os.killpg(agent.pid, signal.SIGKILL)
    await agent.wait()
    record = json.loads((cell_directory / "containers" / "s-c" / "container.json").read_text())
    descriptor = os.pidfd_open(record["pid"])
    os.kill(record["pid"], signal.SIGKILL)
    readable = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, readable.set)
    async with asyncio.timeout(PATIENCE):
        await readable.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
    await next_agent.open()
    pod = Pod(next_agent, (await next_agent.sandboxes())[0], cell_directory)
    ended = await pod.finished(replace(pod.spec(), id="s-c"))
    assert ended.exit_code == 128 + signal.SIGKILL


async def test_a_killed_monitor_does_not_leave_a_running_ghost(runtime: OciRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = pod.spec("sleep", "inf")
    await pod.run(spec)
    monitor = int(Path(runtime.root(spec.id)).with_name("conmon.pid").read_text())
    os.kill(monitor, signal.SIGKILL)
    ended = await pod.finished(spec)
    assert ended.exit_code == 137
    assert "conmon" in ended.message


async def test_half_made_things_are_cleared(next_agent: OciRuntime, cell_directory: Path) -> None:
    for path in ("sandboxes/half/ns", "containers/half/upper"):
        (cell_directory / path).mkdir(parents=True)
    (cell_directory / "sandboxes" / "torn").mkdir()
    (cell_directory / "sandboxes" / "torn" / "sandbox.json").write_text('{"spec": {"id"')
    await next_agent.open()
    assert await next_agent.sandboxes() == []
    assert list((cell_directory / "sandboxes").iterdir()) == list((cell_directory / "containers").iterdir()) == []


async def test_after_a_restart_of_the_machine_only_records_are_left(
    runtime: OciRuntime, make_runtime: Callable[[], OciRuntime], cell_directory: Path, tmp_path: Path
) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = pod.spec("sleep", "inf")
    await pod.run(spec)
    record = json.loads((cell_directory / "containers" / spec.id / "container.json").read_text())
    (cell_directory / "boot").write_text("another boot")
    again = make_runtime()
    await again.open()
    container = (await again.containers())[0]
    assert (container.state, container.exit_code) == (ContainerState.EXITED, 255)
    assert record["pid"]
    await again.close()


async def test_the_log_can_be_rotated(runtime: OciRuntime, tmp_path: Path) -> None:
    pod = await make_pod(runtime, tmp_path)
    spec = replace(pod.spec("sh", "-c", "read a; echo one; read b; echo two"), stdin=True)
    await pod.run(spec)
    process = await runtime.attach(spec.id, stdin=True)
    await process.write_stdin(b"go\n")
    async with asyncio.timeout(PATIENCE):
        await until(process.stdout(), b"one\n")
        old = Path(spec.log_path).rename(tmp_path / "old")
        await runtime.reopen_log(spec.id)
        while not Path(spec.log_path).exists():
            await asyncio.to_thread(os.sched_yield)
    await process.write_stdin(b"go\n")
    await pod.finished(spec)
    await process.close()
    assert old.read_text().endswith(" stdout F one\n")
    assert pod.log(spec) == ["stdout F two"]


async def test_a_sandbox_whose_process_namespace_died_is_not_ready(runtime: OciRuntime, tmp_path: Path) -> None:
    wanted = SandboxSpec("", "", "default", "pod", "pod", share_process_namespace=True)
    pod = await make_pod(runtime, tmp_path, wanted)
    spec = pod.spec("sleep", "inf")
    await pod.run(spec)
    process = await runtime.exec(spec.id, ["sh", "-c", "kill -TERM 1"])
    await process.wait()
    await process.close()
    assert (await pod.finished(spec)).exit_code == 128 + signal.SIGKILL
    async with asyncio.timeout(PATIENCE):
        while (await runtime.sandboxes())[0].ready:
            await asyncio.to_thread(os.sched_yield)
    with pytest.raises(RuntimeFailure, match="its sandbox is gone"):
        await runtime.create_container(pod.spec("true"))

"""What every container runtime must do: the conformance suite of `corral.agent.runtime.api.Runtime`.

A test class inherits from `RuntimeSuite` and has a fixture `runtime` that yields an open runtime. The suite uses the
image `host` and programs that every machine (and the fake runtime) has: true, false, echo, cat, sleep, sh.
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from corral.agent.runtime.api import (
    Container,
    ContainerSpec,
    ContainerState,
    Process,
    Resources,
    Runtime,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
)

_numbers = itertools.count(1)
PATIENCE = 30.0
"""Seconds after which something that should have happened counts as lost."""


async def text(chunks: AsyncIterator[bytes]) -> str:
    """All of a stream."""
    return b"".join([chunk async for chunk in chunks]).decode()


async def until(stream: AsyncIterator[bytes], wanted: bytes) -> bytes:
    """Read until `wanted` has come."""
    seen = b""
    async for chunk in stream:
        seen += chunk
        if wanted in seen:
            return seen
    raise AssertionError(f"the stream ended with {seen!r}, without {wanted!r}")


@dataclass
class Pod:
    """A sandbox for one test, and its containers."""

    runtime: Runtime
    sandbox: Sandbox
    logs: Path

    def spec(self, *command: str) -> ContainerSpec:
        """A container that runs `command` on the image `host`."""
        number = next(_numbers)
        return ContainerSpec(
            id=f"{self.sandbox.id}-c{number}",
            sandbox_id=self.sandbox.id,
            name="main",
            attempt=0,
            image="host",
            command=command,
            log_path=str(self.logs / f"{number}.log"),
        )

    async def run(self, spec: ContainerSpec) -> Container:
        """Create and start."""
        await self.runtime.create_container(spec)
        return await self.runtime.start_container(spec.id)

    async def finished(self, spec: ContainerSpec) -> Container:
        """The container once it has ended."""
        async with asyncio.timeout(PATIENCE):
            exits = self.runtime.exits()
            while (container := await self.find(spec)).state is not ContainerState.EXITED:
                await anext(exits)
        return container

    async def find(self, spec: ContainerSpec) -> Container:
        return next(c for c in await self.runtime.containers() if c.id == spec.id)

    def log(self, spec: ContainerSpec) -> list[str]:
        """The lines of its log without their time."""
        return [line.split(" ", 1)[1] for line in Path(spec.log_path).read_text().splitlines()]


async def make_pod(runtime: Runtime, logs: Path, spec: SandboxSpec | None = None) -> Pod:
    """A pod with a new id."""
    number = next(_numbers)
    wanted = spec or SandboxSpec(id="", pod_uid="", namespace="default", name="pod", hostname="pod")
    return Pod(runtime, await runtime.create_sandbox(replace(wanted, id=f"s{number}", pod_uid=f"u{number}")), logs)


class RuntimeSuite:
    """Inherit, and give a fixture `runtime`."""

    @pytest.fixture
    async def pod(self, runtime: Runtime, tmp_path: Path) -> AsyncIterator[Pod]:
        pod = await make_pod(runtime, tmp_path)
        yield pod
        await runtime.remove_sandbox(pod.sandbox.id)

    async def test_it_answers(self, runtime: Runtime) -> None:
        await runtime.check()

    async def test_it_recovers_without_touching_what_runs(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "3600")
        await pod.run(spec)
        before = await runtime.containers()
        assert await runtime.recover()
        assert await runtime.containers() == before

    async def test_what_a_container_writes_is_where_it_says(self, runtime: Runtime, pod: Pod) -> None:
        if not self.shell:
            return
        spec = pod.spec("sh", "-c", "echo mine > /written")
        await pod.run(spec)
        await pod.finished(spec)
        assert (Path(runtime.written(spec.id)) / "written").read_text() == "mine\n"

    async def test_a_sandbox_is_listed_with_an_address(self, runtime: Runtime, pod: Pod) -> None:
        assert pod.sandbox in await runtime.sandboxes()
        assert pod.sandbox.ready
        assert len(pod.sandbox.addresses) == 1
        assert runtime.network_namespace(pod.sandbox.id)

    async def test_creating_a_sandbox_again_is_the_same_sandbox(self, runtime: Runtime, pod: Pod) -> None:
        again = SandboxSpec(pod.sandbox.id, pod.sandbox.pod_uid, "default", "pod", "pod")
        assert await runtime.create_sandbox(again) == pod.sandbox

    async def test_a_sandbox_on_the_hosts_network_has_no_address(self, runtime: Runtime, tmp_path: Path) -> None:
        spec = SandboxSpec("", "", "default", "pod", "pod", host_network=True)
        pod = await make_pod(runtime, tmp_path, spec)
        assert pod.sandbox.addresses == ()
        assert runtime.network_namespace(pod.sandbox.id) == ""
        await runtime.remove_sandbox(pod.sandbox.id)

    async def test_a_removed_sandbox_is_gone_with_its_containers(self, runtime: Runtime, tmp_path: Path) -> None:
        pod = await make_pod(runtime, tmp_path)
        await pod.run(pod.spec("sleep", "inf"))
        await runtime.remove_sandbox(pod.sandbox.id)
        assert pod.sandbox.id not in {sandbox.id for sandbox in await runtime.sandboxes()}
        assert pod.sandbox.id not in {container.sandbox_id for container in await runtime.containers()}
        await runtime.remove_sandbox(pod.sandbox.id)

    async def test_a_container_is_created_then_running_then_exited(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sh", "-c", "exit 3")
        created = await runtime.create_container(spec)
        assert (created.state, created.started, created.exit_code) == (ContainerState.CREATED, None, None)
        exits = runtime.exits()
        running = await runtime.start_container(spec.id)
        assert running.started is not None
        async with asyncio.timeout(PATIENCE):
            told = await anext(exits)
        assert (told.id, told.state, told.exit_code) == (spec.id, ContainerState.EXITED, 3)
        assert told == await pod.find(spec)
        assert told.finished is not None
        assert told.created <= running.started

    async def test_output_goes_to_a_cri_log(self, pod: Pod) -> None:
        spec = pod.spec("sh", "-c", "echo out; echo err >&2; echo end")
        await pod.run(spec)
        await pod.finished(spec)
        assert sorted(pod.log(spec)) == ["stderr F err", "stdout F end", "stdout F out"]

    async def test_a_program_that_does_not_exist_is_a_start_error(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("nope")
        await runtime.create_container(spec)
        with pytest.raises(RuntimeFailure, match=r'exec: "nope": executable file not found in \$PATH') as caught:
            await runtime.start_container(spec.id)
        assert caught.value.reason == "RunContainerError"
        container = await pod.find(spec)
        assert (container.state, container.exit_code) == (ContainerState.EXITED, 128)
        assert "not found" in container.message

    async def test_an_unknown_image_and_an_unknown_sandbox_are_refused(self, runtime: Runtime, pod: Pod) -> None:
        with pytest.raises(RuntimeFailure) as caught:
            await runtime.create_container(replace(pod.spec("true"), image="nowhere.invalid/none:1"))
        assert caught.value.reason == "CreateContainerError"
        with pytest.raises(RuntimeFailure):
            await runtime.create_container(replace(pod.spec("true"), sandbox_id="nothing"))
        assert await runtime.images.status("nowhere.invalid/none:1") is None

    async def test_stopping_sends_sigterm_and_waits(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        if self.shell:
            spec = pod.spec("sh", "-c", "trap 'exit 9' TERM; read line; echo ready; sleep inf & wait")
        await pod.run(replace(spec, stdin=True))
        if self.shell:
            await self.say(runtime, spec.id, b"go\n", b"ready\n")
            async with asyncio.timeout(PATIENCE):
                await runtime.stop_container(spec.id, 1000)
            assert (await pod.find(spec)).exit_code == 9
        else:
            await runtime.stop_container(spec.id, 1000)
            assert (await pod.find(spec)).exit_code == 128 + signal.SIGTERM

    @staticmethod
    async def say(runtime: Runtime, container_id: str, line: bytes, answer: bytes) -> None:
        """Write a line to the container's stdin, and wait for its answer."""
        process = await runtime.attach(container_id, stdin=True)
        await process.write_stdin(line)
        async with asyncio.timeout(PATIENCE):
            await until(process.stdout(), answer)
        await process.close()

    async def test_without_grace_a_stop_kills(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sh", "-c", "trap '' TERM; sleep inf")
        await pod.run(spec)
        await runtime.stop_container(spec.id, 0)
        assert (await pod.find(spec)).exit_code == 128 + signal.SIGKILL
        await runtime.stop_container(spec.id, 0)

    async def test_a_signal_reaches_the_program(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        await runtime.kill_container(spec.id, signal.SIGKILL)
        assert (await pod.finished(spec)).exit_code == 128 + signal.SIGKILL

    async def test_a_removed_container_is_gone(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        await runtime.remove_container(spec.id)
        assert spec.id not in {container.id for container in await runtime.containers()}
        await runtime.remove_container(spec.id)
        with pytest.raises(RuntimeFailure):
            await runtime.start_container(spec.id)

    async def test_exec_returns_output_and_code(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        process = await runtime.exec(spec.id, ["sh", "-c", "echo out; echo err >&2; exit 7"])
        out, err = await asyncio.gather(text(process.stdout()), text(process.stderr()))
        assert (out, err, await process.wait()) == ("out\n", "err\n", 7)
        await process.close()

    async def test_exec_reads_stdin_to_its_end(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        process = await runtime.exec(spec.id, ["cat"], stdin=True)
        sent = b"0123456789abcdef" * 65536
        output = asyncio.ensure_future(text(process.stdout()))
        await process.write_stdin(sent)
        await process.close_stdin()
        assert (await output).encode() == sent
        assert await process.wait() == 0
        await process.close()

    async def test_exec_of_what_does_not_exist_says_so(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        with pytest.raises(RuntimeFailure, match=r'exec: "nope": executable file not found in \$PATH'):
            await runtime.exec(spec.id, ["nope"])

    async def test_exec_needs_a_running_container(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("true")
        await pod.run(spec)
        await pod.finished(spec)
        with pytest.raises(RuntimeFailure, match="not running"):
            await runtime.exec(spec.id, ["true"])

    async def test_closing_an_exec_kills_it(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        process = await runtime.exec(spec.id, ["sleep", "inf"])
        await process.close()
        assert await process.wait() == 128 + signal.SIGKILL

    async def test_exec_with_a_terminal_has_one_stream(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        process = await runtime.exec(spec.id, ["sh", "-c", "echo out; echo err >&2"], tty=True, stdin=True)
        await process.resize(132, 43)
        out, err = await asyncio.gather(text(process.stdout()), text(process.stderr()))
        assert (out.split(), err, await process.wait()) == (["out", "err"], "", 0)
        await process.close()

    async def test_attach_carries_input_and_output(self, runtime: Runtime, pod: Pod) -> None:
        spec = replace(pod.spec("cat"), stdin=True, stdin_once=True)
        await pod.run(spec)
        process: Process = await runtime.attach(spec.id, stdin=True)
        await process.write_stdin(b"hello\n")
        output = process.stdout()
        assert await until(output, b"hello\n") == b"hello\n"
        await process.close_stdin()
        assert await process.wait() == 0
        await process.close()
        assert pod.log(spec) == ["stdout F hello"]

    async def test_letting_go_of_an_attachment_leaves_the_container(self, runtime: Runtime, pod: Pod) -> None:
        spec = replace(pod.spec("cat"), stdin=True)
        await pod.run(spec)
        first = await runtime.attach(spec.id, stdin=True)
        await first.close()
        second = await runtime.attach(spec.id, stdin=True)
        await second.write_stdin(b"still here\n")
        await until(second.stdout(), b"still here\n")
        await second.close()
        assert (await pod.find(spec)).state is ContainerState.RUNNING

    async def test_limits_can_change_while_it_runs(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("sleep", "inf")
        await pod.run(spec)
        await runtime.update_resources(spec.id, Resources(cpu_shares=512, memory_limit=64 << 20))
        usage = await runtime.usage(spec.id)
        assert usage is not None
        assert usage.pids >= 1

    async def test_usage_of_what_does_not_run_is_none(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("true")
        assert await runtime.usage(spec.id) is None
        await runtime.create_container(spec)
        assert await runtime.usage(spec.id) is None

    async def test_root_is_a_directory(self, runtime: Runtime, pod: Pod) -> None:
        spec = pod.spec("true")
        await pod.run(spec)
        assert Path(runtime.root(spec.id)).is_dir()

    async def test_host_is_an_image_without_a_registry(self, runtime: Runtime) -> None:
        image = await runtime.images.pull("host")
        assert image in await runtime.images.list()
        assert await runtime.images.status("host") == image

    shell = True
    """Whether `sh` is a whole shell, as on a machine."""

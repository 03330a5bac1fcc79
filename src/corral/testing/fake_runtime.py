"""A container runtime in memory: the whole seam of `corral.agent.runtime.api`, without a kernel.

Containers run *programs*: coroutines that read stdin, write output and return an exit code. The common ones are built
in (`true`, `false`, `echo`, `cat`, `sleep`, `sh -c "echo a; exit 3"`); a test adds its own with
`runtime.programs["name"] = program`. What a test wants to happen from outside it says directly: `finish()` ends a
container, `fail()` makes the next calls of an operation raise, `reboot()` takes all namespaces away.
"""

import asyncio
import contextlib
import signal
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from corral.agent.runtime.api import (
    Container,
    ContainerSpec,
    ContainerState,
    Image,
    ImageAuth,
    Process,
    Resources,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    Usage,
)
from corral.base.clock import Clock
from corral.testing.fake_process import PROGRAMS, FakeAttachment, FakeProcess, Program

_NOTHING = Usage(cpu_ns=0, memory_bytes=0, working_set_bytes=0, rss_bytes=0, pids=1)


class FakeImages:
    """Images by reference; `available` is what a registry would have."""

    def __init__(self) -> None:
        self._present: dict[str, Image] = {}
        self.available: dict[str, Image] = {}
        self.pulls: list[str] = []
        self.add("host")

    def add(self, reference: str, config: Mapping[str, object] | None = None, *, remote: bool = False) -> Image:
        """An image that is here, or with `remote` one that can be pulled."""
        image = Image(id=f"fake:{reference}", references=(reference,), size=1000, config=config or {})
        (self.available if remote else self._present)[reference] = image
        return image

    async def status(self, reference: str) -> Image | None:
        if reference in self._present:
            return self._present[reference]
        return next((image for image in self._present.values() if image.id == reference), None)

    async def pull(self, reference: str, auths: Sequence[ImageAuth] = ()) -> Image:
        self.pulls.append(reference)
        if reference == "host":
            return self._present["host"]
        if reference not in self.available:
            raise RuntimeFailure("ErrImagePull", f"cannot pull {reference}: manifest unknown")
        self._present[reference] = self.available[reference]
        return self._present[reference]

    async def load(self, path: str, reference: str = "") -> Image:
        return self.add(reference or path)

    async def list(self) -> Sequence[Image]:
        return tuple(self._present.values())

    async def remove(self, image_id: str) -> None:
        self._present = {name: image for name, image in self._present.items() if image.id != image_id}


@dataclass
class _Held:
    """A container with what only the fake knows of it."""

    spec: ContainerSpec
    container: Container
    process: FakeProcess | None = None
    attachments: list[FakeAttachment] = field(default_factory=list)
    execs: list[FakeProcess] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    usage: Usage = _NOTHING
    partial: dict[str, bytes] = field(default_factory=dict)


class FakeRuntime:
    """See the module. `calls` lists (operation, id) in the order they came."""

    def __init__(self, clock: Clock, directory: Path | None = None) -> None:
        self._clock = clock
        self._temporary = tempfile.TemporaryDirectory(prefix="fake-runtime-") if directory is None else None
        self._directory = directory if directory is not None else Path(self._temporary.name if self._temporary else "")
        self.images = FakeImages()
        self.programs: dict[str, Program] = dict(PROGRAMS)
        self.calls: list[tuple[str, str]] = []
        self._sandboxes: dict[str, tuple[SandboxSpec, Sandbox]] = {}
        self._held: dict[str, _Held] = {}
        self._exits: list[asyncio.Queue[Container]] = []
        self._failures: defaultdict[str, list[Exception]] = defaultdict(list)
        self._addresses = 1
        self._pids = 1000

    # What a test says.

    def fail(self, operation: str, error: Exception, times: int = 1) -> None:
        """The next `times` calls of the method `operation` raise `error`."""
        self._failures[operation] += [error] * times

    def finish(self, container_id: str, exit_code: int = 0, *, oom_killed: bool = False, message: str = "") -> None:
        """End the container's main process now."""
        held = self._held[container_id]
        held.container = replace(held.container, oom_killed=oom_killed, message=message)
        if held.process is not None:
            held.process.finish(exit_code)

    def process(self, container_id: str) -> FakeProcess:
        """The main process of a started container."""
        process = self._held[container_id].process
        if process is None:
            raise KeyError(f"container {container_id} was not started")
        return process

    def spec(self, container_id: str) -> ContainerSpec:
        return self._held[container_id].spec

    def resources(self, container_id: str) -> Resources:
        return self._held[container_id].resources

    def set_usage(self, container_id: str, usage: Usage) -> None:
        self._held[container_id].usage = usage

    def reboot(self) -> None:
        """All namespaces are gone and all containers have ended with 255."""
        for sandbox_id, (spec, sandbox) in self._sandboxes.items():
            self._sandboxes[sandbox_id] = (spec, replace(sandbox, ready=False))
        for held in self._held.values():
            if held.process is not None:
                held.process.finish(255)

    # The seam.

    @property
    def version(self) -> str:
        return "corral+fake://1.0.0"

    async def open(self) -> None:
        self._called("open", "")

    async def close(self) -> None:
        """Containers run on; `stop_all()` ends them."""
        self._called("close", "")

    async def check(self) -> None:
        self._called("check", "")

    async def recover(self) -> str:
        self._called("recover", "")
        return "it answers"

    def stop_all(self) -> None:
        """End every program and remove the directory: the end of a test."""
        for held in self._held.values():
            for process in (*held.execs, *([held.process] if held.process else [])):
                process.finish(128 + signal.SIGKILL)
        if self._temporary is not None:
            self._temporary.cleanup()

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox:
        self._called("create_sandbox", spec.id)
        if spec.id not in self._sandboxes:
            self._addresses += 1
            addresses = () if spec.host_network else (f"10.88.{self._addresses // 256}.{self._addresses % 256}",)
            sandbox = Sandbox(spec.id, spec.pod_uid, spec.namespace, spec.name, True, addresses, self._clock.now())
            self._sandboxes[spec.id] = (spec, sandbox)
        return self._sandboxes[spec.id][1]

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self._called("remove_sandbox", sandbox_id)
        for held in [held for held in self._held.values() if held.spec.sandbox_id == sandbox_id]:
            await self.remove_container(held.spec.id)
        self._sandboxes.pop(sandbox_id, None)

    async def create_container(self, spec: ContainerSpec) -> Container:
        self._called("create_container", spec.id)
        if spec.id in self._held:
            return self._held[spec.id].container
        if spec.sandbox_id not in self._sandboxes or not self._sandboxes[spec.sandbox_id][1].ready:
            raise RuntimeFailure("CreateContainerError", f"cannot create {spec.name}: its sandbox is gone")
        image = await self.images.status(spec.image)
        if image is None:
            raise RuntimeFailure("CreateContainerError", f"cannot create {spec.name}: image {spec.image} is not here")
        container = Container(
            id=spec.id,
            sandbox_id=spec.sandbox_id,
            name=spec.name,
            attempt=spec.attempt,
            image_id=image.id,
            state=ContainerState.CREATED,
            created=self._clock.now(),
        )
        self._held[spec.id] = _Held(spec, container, resources=spec.resources)
        return container

    async def start_container(self, container_id: str) -> Container:
        self._called("start_container", container_id)
        held = self._find(container_id)
        if held.container.state is not ContainerState.CREATED:
            return held.container
        image = await self.images.status(held.spec.image)
        argv = _argv(held.spec, image)
        program = self.programs.get(argv[0]) if argv else None
        if program is None:
            message = f'exec: "{argv[0]}": executable file not found in $PATH' if argv else "no command specified"
            held.container = replace(
                held.container,
                state=ContainerState.EXITED,
                finished=self._clock.now(),
                exit_code=128,
                message=message,
            )
            raise RuntimeFailure("RunContainerError", message)
        process = FakeProcess(argv, dict(held.spec.env), self._clock, tty=held.spec.tty, stdin=held.spec.stdin)
        self._pids += 1
        held.process = process
        held.container = replace(
            held.container, state=ContainerState.RUNNING, started=self._clock.now(), pid=self._pids
        )

        async def on_output(stream: str, data: bytes) -> None:
            await self._output(held, stream, data)

        process.on_output = on_output
        process.exited.add_done_callback(lambda code: self._ended(held, code.result()))
        process.run(program)
        return held.container

    async def stop_container(self, container_id: str, grace: float) -> None:
        self._called("stop_container", container_id)
        held = self._find(container_id)
        if held.process is None or held.process.exited.done():
            return
        if grace > 0:
            held.process.signal(signal.SIGTERM)
        ended = asyncio.ensure_future(held.process.wait())
        patience = asyncio.ensure_future(self._clock.sleep(grace))
        try:
            await asyncio.wait({ended, patience}, return_when=asyncio.FIRST_COMPLETED)
            held.process.signal(signal.SIGKILL)
            await ended
        finally:
            patience.cancel()

    async def kill_container(self, container_id: str, signal: int) -> None:
        self._called("kill_container", container_id)
        process = self._find(container_id).process
        if process is not None:
            process.signal(signal)

    async def remove_container(self, container_id: str) -> None:
        self._called("remove_container", container_id)
        held = self._held.pop(container_id, None)
        if held is not None and held.process is not None:
            held.process.finish(128 + signal.SIGKILL)

    async def sandboxes(self) -> Sequence[Sandbox]:
        return tuple(sandbox for _, sandbox in self._sandboxes.values())

    async def containers(self) -> Sequence[Container]:
        return tuple(held.container for held in self._held.values())

    async def _exits_from(self, queue: "asyncio.Queue[Container]") -> AsyncIterator[Container]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._exits.remove(queue)

    def exits(self) -> AsyncIterator[Container]:
        queue: asyncio.Queue[Container] = asyncio.Queue()
        self._exits.append(queue)
        return self._exits_from(queue)

    async def exec(self, container_id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> Process:
        self._called("exec", container_id)
        held = self._running(container_id)
        program = self.programs.get(argv[0])
        if program is None:
            raise RuntimeFailure("RunContainerError", f'exec: "{argv[0]}": executable file not found in $PATH')
        process = FakeProcess(argv, dict(held.spec.env), self._clock, tty=tty, stdin=stdin)
        held.execs.append(process)
        process.run(program)
        return process

    async def attach(self, container_id: str, *, stdin: bool = False) -> Process:
        self._called("attach", container_id)
        held = self._running(container_id)
        attachment = FakeAttachment(self.process(container_id), stdin and held.spec.stdin, held.attachments.remove)
        held.attachments.append(attachment)
        return attachment

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        self._called("update_resources", container_id)
        self._find(container_id).resources = resources

    async def usage(self, container_id: str) -> Usage | None:
        held = self._held.get(container_id)
        return held.usage if held is not None and held.container.state is ContainerState.RUNNING else None

    def network_namespace(self, sandbox_id: str) -> str:
        return "" if self._sandboxes[sandbox_id][0].host_network else f"/fake/{sandbox_id}/net"

    async def reopen_log(self, container_id: str) -> None:
        self._called("reopen_log", container_id)

    def written(self, container_id: str) -> str:
        return self.root(container_id)

    def control_groups(self) -> list[str]:
        return []

    def root(self, container_id: str) -> str:
        root = self._directory / container_id / "root"
        root.mkdir(parents=True, exist_ok=True)
        return str(root)

    # Inside.

    def _called(self, operation: str, key: str) -> None:
        self.calls.append((operation, key))
        if self._failures[operation]:
            raise self._failures[operation].pop(0)

    def _find(self, container_id: str) -> _Held:
        if container_id not in self._held:
            raise RuntimeFailure("ContainerNotFound", f"cannot find container {container_id}")
        return self._held[container_id]

    def _running(self, container_id: str) -> _Held:
        held = self._find(container_id)
        if held.container.state is not ContainerState.RUNNING:
            raise RuntimeFailure("ContainerNotRunning", f"cannot reach container {held.spec.name}: it is not running")
        return held

    def _ended(self, held: _Held, code: int) -> None:
        held.container = replace(
            held.container, state=ContainerState.EXITED, finished=self._clock.now(), exit_code=code, pid=0
        )
        for process in held.execs:
            process.finish(128 + signal.SIGKILL)
        for attachment in list(held.attachments):
            for pipe in attachment.output.values():
                pipe.end()
        for stream, rest in held.partial.items():
            self._log(held, stream, "P", rest)
        for queue in self._exits:
            queue.put_nowait(held.container)

    async def _output(self, held: _Held, stream: str, data: bytes) -> None:
        *lines, rest = (held.partial.pop(stream, b"") + data).split(b"\n")
        for line in lines:
            self._log(held, stream, "F", line)
        if rest:
            held.partial[stream] = rest
        for attachment in list(held.attachments):
            await attachment.output[stream].put(data)

    def _log(self, held: _Held, stream: str, tag: str, line: bytes) -> None:
        """One line in the CRI log format."""
        if held.spec.log_path:
            stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
            with contextlib.suppress(FileNotFoundError), Path(held.spec.log_path).open("ab") as log:
                log.write(f"{stamp} {stream} {tag} ".encode() + line + b"\n")


def _argv(spec: ContainerSpec, image: Image | None) -> list[str]:
    """Kubernetes' rule: `command` replaces the entrypoint, and without `args` drops the image's cmd."""
    config = image.config if image is not None else {}
    entrypoint, cmd = config.get("Entrypoint") or [], config.get("Cmd") or []
    if spec.command:
        return [*spec.command, *spec.args]
    given: list[str] = [*entrypoint] if isinstance(entrypoint, list) else []
    if spec.args:
        return [*given, *spec.args]
    return [*given, *(cmd if isinstance(cmd, list) else [])]

"""All containers of this machine: prepared (`preparing`), started under conmon, ended, removed.

Creating only prepares; the OCI runtime is called when the container starts, so that a program that cannot be run is a
container that ended with code 128, as it is with Kubernetes. Ends come from conmon's exit files (inotify), and from
conmon's own end as the second line: whatever happens to it, a container is never believed to run when it does not.
"""

import asyncio
import json
import logging
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from corral.agent.runtime import spawn, trees
from corral.agent.runtime.api import (
    Container,
    ContainerSpec,
    ContainerState,
    Process,
    Resources,
    RuntimeFailure,
    SandboxSpec,
    Security,
    Usage,
)
from corral.agent.runtime.images.machine_images import MachineImages
from corral.agent.runtime.oci import (
    attach,
    bundle,
    conmon,
    exec,
    rootfs,
)
from corral.agent.runtime.oci.cgroups import Cgroups, Limits
from corral.agent.runtime.oci.engine import Engine
from corral.agent.runtime.oci.exits import ExitWatch, read_exit
from corral.agent.runtime.oci.monitors import Monitors, kill_monitor, read_pid, text_of
from corral.agent.runtime.oci.preparing import Preparer
from corral.agent.runtime.oci.state import ContainerRecord, Layout, load, remove_tree, save
from corral.base.clock import Clock

log = logging.getLogger(__name__)

_RECORD = "container.json"
_START_ERROR = 128
_LOST = 255
_UNTOLD = "its exit code is unknown: its monitor (conmon) ended without telling it (killed, or the disk was full)"
_HOLDER = ("/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 2147483647 & wait $!; done")


@dataclass
class Held:
    """A container with what only this process knows of it."""

    record: ContainerRecord
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    execs: set[exec.ExecProcess] = field(default_factory=set)

    @property
    def running(self) -> bool:
        return self.record.started is not None and self.record.finished is None


class Containers:
    """See the module. `find_sandbox` gives the spec of a sandbox that is ready."""

    def __init__(
        self,
        layout: Layout,
        engine: Engine,
        cgroups: Cgroups,
        host: bundle.Host,
        images: MachineImages,
        clock: Clock,
        find_sandbox: Callable[[str], SandboxSpec | None],
    ) -> None:
        self._layout = layout
        self._engine = engine
        self._cgroups = cgroups
        self._host = host
        self._preparer = Preparer(layout, cgroups, host, images, clock)
        self._clock = clock
        self._find_sandbox = find_sandbox
        self._held: dict[str, Held] = {}
        self._creating: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listeners: list[asyncio.Queue[Container]] = []
        self._exec_count = 0
        # More at once than there are processors only makes each of them wait.
        self._starting = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._starts: set[asyncio.Task[Container]] = set()
        self._monitors = Monitors(cgroups)
        self._watch = ExitWatch(layout.exits, self._on_exit_file)

    async def close(self) -> None:
        """Let go; containers and their monitors go on."""
        await asyncio.gather(*self._starts, return_exceptions=True)
        self._watch.close()
        await self._monitors.close()
        for held in self._held.values():
            for process in list(held.execs):
                await process.close()

    # What there is.

    async def load(self, *, same_boot: bool) -> None:
        """Adopt what an earlier agent left; bring what it left half-done to an end or a beginning."""
        if not same_boot:
            remove_tree(self._layout.oci)
            self._layout.oci.mkdir()
        for directory in self._layout.containers.iterdir():
            record = load(directory / _RECORD, ContainerRecord)
            if record is None:
                log.info("removing half-made container %s", directory.name)
                rootfs.remove(directory)
                continue
            remove_tree(directory / "exec")
            held = self._held[record.spec.id] = Held(record)
            await self._adopt(held, same_boot=same_boot)
        for path in [*self._layout.oci.iterdir(), *self._layout.exits.iterdir()]:
            # conmon writes an exit file under a name with a suffix first; removing that would lose the exit code.
            names = {path.name, path.name.rpartition(".")[0]}
            if not names & self._held.keys() and not path.name.startswith("."):
                _remove(path)

    async def _adopt(self, held: Held, *, same_boot: bool) -> None:
        record, directory = held.record, self._layout.container(held.record.spec.id)
        if record.finished is not None:
            held.ended.set()
        elif not same_boot:
            if record.started is not None:
                self._finish(held, _LOST, self._clock.now(), "the machine was restarted")
        elif record.started is not None:
            self._watch_monitor(held)
        elif (directory / "conmon.pid").exists() or record.pid:
            await self._adopt_half_started(held)

    async def _adopt_half_started(self, held: Held) -> None:
        """The agent ended between calling the OCI runtime and noting that it did."""
        record = held.record
        done = await spawn.run(self._engine.argv("state", record.spec.id))
        status = json.loads(done.stdout).get("status", "") if done.code == 0 else ""
        if status in ("running", "stopped"):
            record.started = self._clock.now()
            record.pid = read_pid(self._layout.container(record.spec.id) / "pid")
            self._save(held)
            self._watch_monitor(held)
        else:
            self._reset(held)

    def _reset(self, held: Held) -> None:
        """Take back a start that did not happen."""
        directory = self._layout.container(held.record.spec.id)
        kill_monitor(read_pid(directory / "conmon.pid"), held.record.spec.id)
        self._clear_processes(held)
        (self._layout.exits / held.record.spec.id).unlink(missing_ok=True)
        (directory / "conmon.pid").unlink(missing_ok=True)
        held.record.pid = 0
        self._save(held)

    def all(self) -> list[Container]:
        return [view(held.record) for held in self._held.values() if not held.record.hidden]

    def running(self) -> list[str]:
        """Ids of what is said to run."""
        return [held.record.spec.id for held in self._held.values() if held.running]

    def watch_again(self, engine: Engine) -> None:
        """Use `engine` from now on, and watch exits and monitors anew: whatever ended unseen is seen now."""
        self._engine = engine
        self._watch.close()
        self._watch = ExitWatch(self._layout.exits, self._on_exit_file)
        for held in [held for held in self._held.values() if held.running]:
            self._monitors.forget(held.record.spec.id)
            self._watch_monitor(held)

    def layers(self) -> set[str]:
        """Directories that containers stand on."""
        return {layer for held in self._held.values() for layer in held.record.layers}

    def images(self) -> set[str]:
        """Images that containers were made from."""
        return {held.record.image_id for held in self._held.values()}

    def _find(self, container_id: str) -> Held:
        held = self._held.get(container_id)
        if held is None:
            raise RuntimeFailure("ContainerNotFound", f"cannot find container {container_id}")
        return held

    def _find_running(self, container_id: str) -> Held:
        held = self._find(container_id)
        if not held.running:
            raise RuntimeFailure(
                "ContainerNotRunning", f"cannot reach container {held.record.spec.name}: it is not running"
            )
        return held

    def _save(self, held: Held) -> None:
        save(self._layout.container(held.record.spec.id) / _RECORD, held.record)

    # Creating.

    async def create(self, spec: ContainerSpec, *, hidden: bool = False) -> Container:
        async with self._creating[spec.sandbox_id]:
            if spec.id not in self._held:
                self._held[spec.id] = await self._create(spec, hidden=hidden)
            return view(self._held[spec.id].record)

    async def _create(self, spec: ContainerSpec, *, hidden: bool) -> Held:
        pod = self._find_sandbox(spec.sandbox_id)
        if pod is None:
            raise RuntimeFailure("CreateContainerError", f"cannot create container {spec.name}: its sandbox is gone")
        directory = self._layout.container(spec.id)
        try:
            directory.mkdir(mode=0o700)
            processes = self._process_namespace(spec, pod)
            record = await self._preparer.prepare(spec, pod, directory, self._engine, processes)
            record.hidden = hidden
            save(directory / _RECORD, record)
        except OSError as error:
            rootfs.remove(directory)
            raise RuntimeFailure("CreateContainerError", f"cannot create container {spec.name}: {error}") from error
        except BaseException:
            rootfs.remove(directory)
            raise
        return Held(record)

    def _process_namespace(self, spec: ContainerSpec, pod: SandboxSpec) -> str:
        """The path of the PID namespace that is shared or targeted; empty: it gets one of its own."""
        target = self._held.get(spec.target_pid_namespace or _holder_id(pod.id))
        if target is not None and target.running and not pod.host_pid:
            return f"/proc/{target.record.pid}/ns/pid"
        if spec.target_pid_namespace and not pod.host_pid:
            raise RuntimeFailure(
                "CreateContainerError", f"cannot join the processes of {spec.target_pid_namespace}: it does not run"
            )
        return ""

    async def hold_process_namespace(self, pod: SandboxSpec) -> None:
        """Start the process that is number 1 of a pod with a shared PID namespace, and collects its orphans."""
        spec = ContainerSpec(
            id=_holder_id(pod.id),
            sandbox_id=pod.id,
            name="process-namespace",
            attempt=0,
            image="host",
            command=_HOLDER,
            security=Security(user="65534:65534", drop_capabilities=("ALL",), read_only_root=True),
        )
        await self.create(spec, hidden=True)
        await self.start(spec.id)

    def lost_process_namespace(self, sandbox_id: str) -> bool:
        """Whether the process that held the pod's PID namespace has ended, and with it whatever was in it."""
        holder = self._held.get(_holder_id(sandbox_id))
        return holder is not None and holder.record.finished is not None

    # Starting and ending.

    async def start(self, container_id: str) -> Container:
        """Start it, to the end even if the caller is cancelled: a start that is broken off would be nobody's."""
        task = asyncio.ensure_future(self._start_once(self._find(container_id)))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)
        return await asyncio.shield(task)

    async def _start_once(self, held: Held) -> Container:
        async with held.lock, self._starting:
            if held.record.spec.id not in self._held:
                raise RuntimeFailure("ContainerNotFound", f"cannot start {held.record.spec.name}: it was removed")
            if held.record.started is None and held.record.finished is None:
                try:
                    await self._start(held)
                except (RuntimeFailure, OSError) as error:
                    message = error.message if isinstance(error, RuntimeFailure) else str(error)
                    self._clear_processes(held)
                    self._finish(held, _START_ERROR, self._clock.now(), message, tell=False)
                    raise RuntimeFailure("RunContainerError", message) from error
            return view(held.record)

    async def _start(self, held: Held) -> None:
        record = held.record
        directory = self._layout.container(record.spec.id)
        program = str(json.loads((directory / "config.json").read_bytes())["process"]["args"][0])
        monitor = conmon.Monitor(record.spec, program, directory, self._layout.exits, self._engine)
        early = self._cgroups.adopt_monitor if self._cgroups.children_stay else None
        record.pid = await conmon.launch(monitor, early)
        self._save(held)
        done = await spawn.run(self._engine.argv("start", record.spec.id, log=monitor.log))
        if done.code:
            words = conmon.last_error(monitor.log) or done.words
            raise RuntimeFailure("RunContainerError", conmon.explain(words, program))
        record.started = self._clock.now()
        self._save(held)
        self._watch_monitor(held)

    def _watch_monitor(self, held: Held) -> None:
        """Notice the end of the container, or else of its conmon; either may have happened already."""
        container_id = held.record.spec.id
        pid_file = self._layout.container(container_id) / "conmon.pid"
        if self._monitors.watch(container_id, pid_file, lambda: self._on_monitor_end(held)):
            self._on_exit_file(container_id)
        else:
            self._on_monitor_end(held)

    def _on_exit_file(self, container_id: str) -> None:
        for held in [self._held.get(container_id)] if container_id else list(self._held.values()):
            if held is not None and held.running:
                told = read_exit(self._layout.exits, held.record.spec.id)
                if told is not None:
                    self._finish(held, *told)

    def _on_monitor_end(self, held: Held) -> None:
        self._on_exit_file(held.record.spec.id)
        if held.running:
            self._finish(held, 128 + signal.SIGKILL, self._clock.now(), _UNTOLD)

    def _finish(self, held: Held, code: int, when: datetime, message: str = "", *, tell: bool = True) -> None:
        """Note the end, take the container's processes and groups away, and tell whoever listens."""
        record = held.record
        directory = self._layout.container(record.spec.id)
        oom = (directory / "oom").exists() or self._cgroups.oom_kills(record.cgroup) > 0
        record.finished, record.exit_code = when, code
        record.oom_killed = oom and code != 0
        record.message = message
        self._clear_processes(held)
        self._monitors.forget(record.spec.id)
        record.pid = 0
        try:
            self._save(held)
        except OSError:  # the exit file is there all the same, and is read again by the next agent
            log.exception("cannot note the end of container %s", record.spec.id)
        held.ended.set()
        if tell and not record.hidden:
            for listener in self._listeners:
                listener.put_nowait(view(record))

    def _clear_processes(self, held: Held) -> None:
        """End what is left of it: where the PID namespace is not its own, processes outlive its first."""
        self._cgroups.kill(held.record.cgroup)
        self._cgroups.remove(held.record.cgroup)
        state = self._layout.oci / held.record.spec.id
        with trees.unless_lost(state):
            remove_tree(state)

    def kill(self, container_id: str, number: int) -> None:
        held = self._find(container_id)
        self._signal(held, number)

    def _signal(self, held: Held, number: int) -> None:
        """Signal the first process, if it still is the container's."""
        if not held.running:
            return
        try:
            descriptor = os.pidfd_open(held.record.pid)
        except ProcessLookupError:
            return
        try:
            if held.record.cgroup in text_of(f"/proc/{held.record.pid}/cgroup"):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)

    async def stop(self, container_id: str, grace: float) -> None:
        await self._stop(self._find(container_id), grace)

    async def _stop(self, held: Held, grace: float) -> None:
        if not held.running:
            return
        ended = asyncio.ensure_future(held.ended.wait())
        patience = asyncio.ensure_future(self._clock.sleep(grace))
        try:
            if grace > 0:
                self._signal(held, held.record.stop_signal)
                await asyncio.wait({ended, patience}, return_when=asyncio.FIRST_COMPLETED)
            self._signal(held, signal.SIGKILL)
            await ended
        finally:
            ended.cancel()
            patience.cancel()

    async def remove(self, container_id: str) -> None:
        held = self._held.get(container_id)
        if held is None:
            return
        async with held.lock:
            # A start that was under way is over now, so what it started can be stopped.
            await self._stop(held, 0)
            for process in list(held.execs):
                await process.close()
            if self._held.pop(container_id, None) is None:
                return
            await asyncio.to_thread(self._remove_files, held)

    def _remove_files(self, held: Held) -> None:
        self._clear_processes(held)
        directory = self._layout.container(held.record.spec.id)
        rootfs.unmount(directory)
        with trees.unless_lost(directory):
            (directory / _RECORD).unlink(missing_ok=True)
            rootfs.remove(directory)
        (self._layout.exits / held.record.spec.id).unlink(missing_ok=True)

    async def remove_all(self, sandbox_id: str) -> None:
        """Remove every container of a sandbox that is no longer ready, the holder of its PID namespace last."""
        async with self._creating[sandbox_id]:
            mine = [held for held in self._held.values() if held.record.spec.sandbox_id == sandbox_id]
        self._creating.pop(sandbox_id, None)
        await asyncio.gather(*(self.remove(held.record.spec.id) for held in mine if not held.record.hidden))
        for held in mine:
            await self.remove(held.record.spec.id)

    async def _listen(self, queue: "asyncio.Queue[Container]") -> AsyncIterator[Container]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)

    def exits(self) -> AsyncIterator[Container]:
        queue: asyncio.Queue[Container] = asyncio.Queue()
        self._listeners.append(queue)
        return self._listen(queue)

    # Reaching into a running one.

    async def exec(self, container_id: str, argv: Sequence[str], *, tty: bool, stdin: bool) -> Process:
        held = self._find_running(container_id)
        directory = self._layout.container(container_id)
        own = json.loads((directory / "config.json").read_bytes())["process"]
        self._exec_count += 1
        process = await exec.start(
            self._engine,
            container_id,
            exec.process_spec(own, argv, tty=tty),
            directory / "exec" / str(self._exec_count),
            stdin=stdin,
        )
        held.execs.add(process)
        process.when_closed(lambda: held.execs.discard(process))
        return process

    async def attach(self, container_id: str, *, stdin: bool) -> Process:
        held = self._find_running(container_id)
        directory = self._layout.container(container_id)
        connection = await attach.connect(directory)

        async def exit_code() -> int:
            await held.ended.wait()
            return held.record.exit_code if held.record.exit_code is not None else _LOST

        spec = held.record.spec
        return attach.Attachment(
            connection, directory, exit_code, self._clock, tty=spec.tty, stdin=stdin and spec.stdin
        )

    def update(self, container_id: str, resources: Resources) -> None:
        held = self._find(container_id)
        held.record.spec = replace(held.record.spec, resources=resources)
        limits = Limits(
            resources.cpu_shares, resources.cpu_quota, resources.memory_limit, resources.pids_limit, resources.cpuset
        )
        try:
            if held.running:
                self._cgroups.apply(held.record.cgroup, limits)
            else:
                self._rewrite_resources(held)
        except OSError as error:
            raise RuntimeFailure(
                "UpdateContainerError", f"cannot change the limits of {held.record.spec.name}: {error}"
            ) from error
        self._save(held)

    def _rewrite_resources(self, held: Held) -> None:
        path = self._layout.container(held.record.spec.id) / "config.json"
        made = json.loads(path.read_bytes())
        made["linux"]["resources"] |= bundle.resources(held.record.spec.resources, self._host)
        path.write_text(json.dumps(made))

    def usage(self, container_id: str) -> Usage | None:
        held = self._held.get(container_id)
        return self._cgroups.usage(held.record.cgroup) if held is not None and held.running else None

    def reopen_log(self, container_id: str) -> None:
        conmon.reopen_log(self._layout.container(self._find(container_id).record.spec.id))

    def written(self, container_id: str) -> str:
        return str(self._layout.container(container_id) / "upper")

    def root(self, container_id: str) -> str:
        return str(self._layout.container(self._find(container_id).record.spec.id) / "root")


def view(record: ContainerRecord) -> Container:
    """The record as the seam shows it."""
    if record.finished is not None:
        state = ContainerState.EXITED
    else:
        state = ContainerState.RUNNING if record.started is not None else ContainerState.CREATED
    return Container(
        id=record.spec.id,
        sandbox_id=record.spec.sandbox_id,
        name=record.spec.name,
        attempt=record.spec.attempt,
        image_id=record.image_id,
        state=state,
        created=record.created,
        started=record.started,
        finished=record.finished,
        exit_code=record.exit_code,
        oom_killed=record.oom_killed,
        pid=record.pid,
        message=record.message,
    )


def _holder_id(sandbox_id: str) -> str:
    return f"{sandbox_id}-processes"


def _remove(path: Path) -> None:
    """Remove a file, or a directory with what is in it."""
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)

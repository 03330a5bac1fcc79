"""One conmon for each container: it creates the container, holds its streams, writes its log and its exit code.

conmon leaves our session and our control groups, so that neither the agent's death nor a supervisor that cleans up
after the agent touches a container. How it talks (conmon(8) and its sources):

    sync pipe       one JSON line when the container is there: {"pid": 123} or {"pid": -1, "message": "..."}
    start pipe      conmon waits for a byte before it starts anything: the time to move it to another group
    exit file       EXITS/ID, renamed into place, holds the exit code
    attach          a SOCK_SEQPACKET socket in the bundle; packets begin with the stream's number
    ctl             a FIFO in the bundle: "1 HEIGHT WIDTH" resizes, "2 0 0" reopens the log
    oom             an empty file in its working directory (the bundle), when the kernel killed for memory

It gets no `--persist-dir`: conmon writes the exit code there first, and gives up if that disk is full.
"""

import asyncio
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.agent.runtime import spawn
from corral.agent.runtime.api import ContainerSpec, RuntimeFailure
from corral.agent.runtime.oci.engine import Engine

_RESIZE = 1
_REOPEN_LOG = 2
PROGRAM = "conmon"


@dataclass(frozen=True, slots=True)
class Monitor:
    """What conmon is started with."""

    spec: ContainerSpec
    program: str
    """What the container runs."""
    bundle: Path
    exits: Path
    engine: Engine

    @property
    def log(self) -> Path:
        """Where the OCI runtime writes what went wrong."""
        return self.bundle / "oci.log"

    def argv(self) -> list[str]:
        runtime, *arguments = self.engine.careful_argv(log=self.log)
        argv = [PROGRAM, "--api-version", "1", "--cid", self.spec.id, "--cuuid", self.spec.id, "--name", self.spec.name]
        argv += ["--runtime", runtime, *(f"--runtime-arg={word}" for word in arguments)]
        argv += ["--bundle", str(self.bundle), "--exit-dir", str(self.exits)]
        argv += ["--container-pidfile", str(self.bundle / "pid"), "--conmon-pidfile", str(self.bundle / "conmon.pid")]
        argv += ["--log-path", f"k8s-file:{self.spec.log_path or '/dev/null'}", "--log-level", "error"]
        argv += ["--full-attach", "--no-new-keyring", "--no-sync-log"]
        if self.spec.tty:
            argv.append("--terminal")
        if self.spec.stdin:
            argv.append("--stdin")
            if not self.spec.stdin_once:
                argv.append("--leave-stdin-open")
        return argv


async def launch(monitor: Monitor, adopt: Callable[[int], None] | None) -> int:
    """Create the container under a new conmon; `adopt`, if any, gets conmon's pid before it starts anything.

    Returns the pid of the container's first process, which waits to be started.

    Raises:
        RuntimeFailure: `RunContainerError`, with the OCI runtime's words.
    """
    sync_read, sync_write = os.pipe2(os.O_CLOEXEC)
    start_read, start_write = os.pipe2(os.O_CLOEXEC)
    try:
        process = spawn.Child(
            monitor.argv(),
            pass_fds=(sync_write, start_read),
            new_session=True,
            env={"_OCI_SYNCPIPE": str(sync_write), "_OCI_STARTPIPE": str(start_read)},
            directory=monitor.bundle,
        )
        os.close(sync_write)
        sync_write = -1
        if adopt is not None:
            await asyncio.to_thread(adopt, process.pid)
        os.write(start_write, b"\0")
        answer = await _read_to_newline(sync_read)
        await process.wait()
    finally:
        for descriptor in (sync_read, sync_write, start_read, start_write):
            if descriptor >= 0:
                os.close(descriptor)
    return _pid(answer, monitor)


async def _read_to_newline(descriptor: int) -> bytes:
    """One line from a pipe (conmon keeps its end open, so the end of the file never comes)."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    done: asyncio.Future[bytes] = loop.create_future()
    line = bytearray()

    def on_readable() -> None:
        try:
            chunk = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        line.extend(chunk)
        if (not chunk or b"\n" in chunk) and not done.done():
            done.set_result(bytes(line))
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, on_readable)
    try:
        return await done
    finally:
        loop.remove_reader(descriptor)


def _pid(answer: bytes, monitor: Monitor) -> int:
    try:
        told = json.loads(answer)
    except ValueError:
        told = {}
    pid = int(told.get("data", told.get("pid", -1)))
    if pid > 0:
        return pid
    words = last_error(monitor.log) or str(told.get("message") or "conmon ended without a word")
    raise RuntimeFailure("RunContainerError", explain(words, monitor.program))


def last_error(log: Path) -> str:
    """The last error that an OCI runtime wrote into its JSON log; empty when there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in ("error", "fatal", None) and entry.get("msg"):
            return str(entry["msg"]).strip()
    return ""


_CRUN_NOT_FOUND = re.compile(r"executable file [`'](?P<path>.*?)[`'] not found")
_CRUN_NOT_OPENED = re.compile(r"(?:open|stat|exec) executable(?: [`'].*?[`'])?: (?P<why>.*)")
_RUNC = re.compile(r'exec: ".*')


def explain(words: str, program: str) -> str:
    """The OCI runtime's complaint about a program that cannot be run, in the words that Kubernetes' users know."""
    if found := _CRUN_NOT_FOUND.search(words):
        path = found["path"]
        why = f"stat {path}: no such file or directory" if "/" in path else "executable file not found in $PATH"
        return f'exec: "{path}": {why}'
    if found := _CRUN_NOT_OPENED.search(words):
        return f'exec: "{program}": {found["why"].lower()}'
    if found := _RUNC.search(words):
        return found[0].removesuffix(": unknown")
    return words


def resize(bundle: Path, width: int, height: int) -> None:
    """Set the size of the container's terminal."""
    _control(bundle, f"{_RESIZE} {height} {width}\n")


def reopen_log(bundle: Path) -> None:
    """Let conmon open its log file anew."""
    _control(bundle, f"{_REOPEN_LOG} 0 0\n")


def _control(bundle: Path, line: str) -> None:
    try:
        descriptor = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # nobody listens: the container has ended
        return
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)

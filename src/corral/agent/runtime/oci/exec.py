"""Another process in a running container, by the OCI runtime's `exec`, with its streams in our hands.

With a terminal, the OCI runtime gets one end of a pseudo-terminal of ours and copies between it and the container's;
without, it gets pipes. Either way nothing is buffered here, so back-pressure reaches the program. The process is known
to have started when the OCI runtime has written its pid file.
"""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.agent.runtime import spawn, syscalls
from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.oci.conmon import explain, last_error
from corral.agent.runtime.oci.descriptors import Descriptor
from corral.agent.runtime.oci.engine import Engine
from corral.agent.runtime.oci.state import remove_tree


def process_spec(process: Mapping[str, Any], argv: Sequence[str], *, tty: bool) -> dict[str, Any]:
    """The container's own process (same user, environment, capabilities) with another command."""
    made = {**process, "args": list(argv), "terminal": tty}
    if tty and not any(word.startswith("TERM=") for word in process.get("env", ())):
        made["env"] = [*process.get("env", ()), "TERM=xterm"]
    return made


def tree(root: int, parents: Mapping[int, int]) -> set[int]:
    """`root` and all its descendants, from a table of each process's parent."""
    found = {root}
    while fresh := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= fresh
    return found


def parents() -> dict[int, int]:
    """Each process of the machine and its parent."""
    table = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except OSError:
                continue
            table[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return table


def kill_tree(root: int) -> None:
    """SIGKILL `root` and its descendants; they are stopped first, so that none escapes by forking."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in tree(root, parents()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


class ExecProcess:
    """An exec'd process: the seam's Process."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        directory: Path,
        stdin: Descriptor | None,
        stdout: Descriptor,
        stderr: Descriptor | None,
    ) -> None:
        self._process = process
        self._directory = directory
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._tty = stderr is None
        self._closed = False
        self._on_close: Callable[[], None] | None = None

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call `call` once the process has been closed."""
        self._on_close = call

    async def write_stdin(self, data: bytes) -> None:
        if self._stdin is not None:
            await self._stdin.write(data)

    async def close_stdin(self) -> None:
        if self._stdin is None:
            return
        if self._tty:
            await self._stdin.write(b"\x04")
        else:
            self._stdin.close()

    def stdout(self) -> AsyncIterator[bytes]:
        return self._stdout.chunks()

    def stderr(self) -> AsyncIterator[bytes]:
        return self._stderr.chunks() if self._stderr is not None else _nothing()

    async def resize(self, width: int, height: int) -> None:
        if self._tty and not self._stdout.closed and self._process.returncode is None:
            fcntl.ioctl(self._stdout.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            # The OCI runtime does not lead a session, so the kernel does not tell it.
            self._process.send_signal(signal.SIGWINCH)

    async def wait(self) -> int:
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._process.returncode is None:
            pid = _pid(self._directory)
            if pid:
                kill_tree(pid)
            else:
                kill_tree(self._process.pid)
            await self._process.wait()
        for descriptor in (self._stdin, self._stdout, self._stderr):
            if descriptor is not None:
                descriptor.close()
        remove_tree(self._directory)
        if self._on_close is not None:
            self._on_close()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _pid(directory: Path) -> int:
    try:
        return int((directory / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return 0


async def start(
    engine: Engine, container_id: str, spec: Mapping[str, Any], directory: Path, *, stdin: bool
) -> ExecProcess:
    """Run the process that `spec` describes; `directory` is its own and is removed with it.

    Raises:
        RuntimeFailure: `RunContainerError`, with why it could not be started.
    """
    directory.mkdir(parents=True)
    specification, log, pid_file = directory / "process.json", directory / "oci.log", directory / "pid"
    specification.write_text(json.dumps(spec))
    tty = bool(spec["terminal"])
    options = ["exec", "--process", str(specification), "--pid-file", str(pid_file)]
    argv = engine.careful_argv(*options, container_id, log=log)
    started = _appears(directory, pid_file.name)
    try:
        process = await _spawn(argv, directory, tty=tty, stdin=stdin)
        ended = asyncio.ensure_future(process.wait())
        waiter = asyncio.ensure_future(started.wait())
        await asyncio.wait({ended, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
    finally:
        started.close()
    if ended.done() and not pid_file.exists():
        words = last_error(log)
        await process.close()
        raise RuntimeFailure(
            "RunContainerError", explain(words, spec["args"][0]) if words else "cannot exec: the container has ended"
        )
    return process


class _Appearance:
    """Waits until a file of a given name appears in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        mask = syscalls.IN_CLOSE_WRITE | syscalls.IN_MOVED_TO
        self._events = Descriptor(syscalls.inotify(str(directory), mask))
        self._name = name

    async def wait(self) -> None:
        while data := await self._events.read():
            if self._name in syscalls.inotify_names(data):
                return

    def close(self) -> None:
        self._events.close()


def _appears(directory: Path, name: str) -> _Appearance:
    return _Appearance(directory, name)


async def _spawn(argv: Sequence[str], directory: Path, *, tty: bool, stdin: bool) -> ExecProcess:
    """Start `argv` with pipes or a terminal; our ends become Descriptors, its ends are closed here."""
    if tty:
        master, slave = pty.openpty()
        theirs, ours = [slave, slave, slave], [master]
    else:
        out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        incoming = os.pipe2(os.O_CLOEXEC) if stdin else (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1)
        theirs, ours = [incoming[0], out[1], err[1]], [incoming[1], out[0], err[0]]
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=theirs[0],
            stdout=theirs[1],
            stderr=theirs[2],
            start_new_session=True,
            env=spawn.environment(),
        )
    except BaseException:
        for number in ours:
            if number >= 0:
                os.close(number)
        raise
    finally:
        for number in set(theirs):
            os.close(number)
    if tty:
        terminal = Descriptor(ours[0])
        return ExecProcess(process, directory, terminal, terminal, None)
    sink = Descriptor(ours[0]) if ours[0] >= 0 else None
    return ExecProcess(process, directory, sink, Descriptor(ours[1]), Descriptor(ours[2]))

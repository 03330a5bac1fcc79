"""Another process in a running container, by the OCI runtime's `exec`, with its streams in our hands.

With a terminal, crun hands us the container's own; runc gets one end of a terminal of ours and copies between the two.
Without, there are pipes. Nothing is buffered here, so back-pressure reaches the program. The process is known to have
started when the OCI runtime has written its pid file.
"""

import asyncio
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.agent.runtime import spawn, syscalls
from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.descriptors import Descriptor
from corral.agent.runtime.oci.conmon import explain, last_error
from corral.agent.runtime.oci.console import ConsoleSocket
from corral.agent.runtime.oci.engine import Engine
from corral.agent.runtime.oci.state import remove_tree

_PID_FILE = "pid"
_TERMINAL_PATIENCE = 1.0
"""Seconds for a terminal to arrive after its process has ended."""


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
        process: spawn.Child,
        directory: Path,
        stdin: Descriptor | None,
        stdout: Descriptor | None,
        stderr: Descriptor | None,
    ) -> None:
        self._process = process
        self._directory = directory
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._tty = False
        self._closed = False
        self._on_close: Callable[[], None] | None = None

    def take_terminal(self, master: Descriptor) -> None:
        """From now on, all streams are those of a terminal."""
        self._tty = True
        self._stdin = self._stdout = master

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
        return self._stdout.chunks() if self._stdout is not None else _nothing()

    def stderr(self) -> AsyncIterator[bytes]:
        return self._stderr.chunks() if self._stderr is not None else _nothing()

    async def resize(self, width: int, height: int) -> None:
        if self._tty and self._stdout is not None and not self._stdout.closed and self._process.returncode is None:
            fcntl.ioctl(self._stdout.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            # An OCI runtime that copies between two terminals leads no session, so the kernel does not tell it.
            self._process.signal(signal.SIGWINCH)

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
        return int((directory / _PID_FILE).read_text())
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
    (directory / "process.json").write_text(json.dumps(spec))
    log = directory / "oci.log"
    tty = bool(spec["terminal"])
    console = ConsoleSocket(directory) if tty and engine.sends_terminal else None
    options = ["exec", "--process", str(directory / "process.json"), "--pid-file", str(directory / _PID_FILE)]
    if console is not None:
        options += ["--console-socket", console.path]
    argv = engine.careful_argv(*options, container_id, log=log)
    started = _Appearance(directory, _PID_FILE)
    try:
        streams = _no_streams() if console is not None else _terminal() if tty else _pipes(stdin=stdin)
        process = _spawn(argv, directory, streams)
        try:
            await _first(process.wait(), started.wait())
            if console is not None and (directory / _PID_FILE).exists():
                await _take_terminal(process, console)
        except BaseException:
            await process.close()
            raise
    finally:
        started.close()
        if console is not None:
            console.close()
    if not (directory / _PID_FILE).exists():
        words = last_error(log)
        await process.close()
        message = explain(words, spec["args"][0]) if words else "cannot exec: the container has ended"
        raise RuntimeFailure("RunContainerError", message)
    return process


async def _first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` is done; the others are given up, failures are raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done:
        task.result()


async def _take_terminal(process: ExecProcess, console: ConsoleSocket) -> None:
    """Take the terminal that the OCI runtime sends; one whose process ended at once may still be on its way to us."""
    receiving = asyncio.ensure_future(console.receive())
    ended = asyncio.ensure_future(process.wait())
    await asyncio.wait({receiving, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    await asyncio.wait({receiving}, timeout=_TERMINAL_PATIENCE)
    if receiving.done():
        process.take_terminal(Descriptor(receiving.result()))
    else:
        receiving.cancel()


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


@dataclass(frozen=True, slots=True)
class _Streams:
    """A process's three descriptors, and our ends of them: (stdin, stdout, stderr), -1 where there is none."""

    theirs: tuple[int, int, int]
    ours: tuple[int, int, int]


def _pipes(*, stdin: bool) -> _Streams:
    out, err = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
    source = os.pipe2(os.O_CLOEXEC) if stdin else (os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), -1)
    return _Streams((source[0], out[1], err[1]), (source[1], out[0], err[0]))


def _terminal() -> _Streams:
    master, slave = os.openpty()
    return _Streams((slave, slave, slave), (-1, master, -1))


def _no_streams() -> _Streams:
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    return _Streams((nothing, nothing, nothing), (-1, -1, -1))


def _spawn(argv: Sequence[str], directory: Path, streams: _Streams) -> ExecProcess:
    """Start `argv`; our ends of its streams become Descriptors, its ends are closed here."""
    stdin, stdout, stderr = (Descriptor(number) if number >= 0 else None for number in streams.ours)
    try:
        stdin_fd, stdout_fd, stderr_fd = streams.theirs
        process = spawn.Child(argv, stdin=stdin_fd, stdout=stdout_fd, stderr=stderr_fd, new_session=True)
    except BaseException:
        for descriptor in (stdin, stdout, stderr):
            if descriptor is not None:
                descriptor.close()
        raise
    finally:
        for number in set(streams.theirs):
            os.close(number)
    made = ExecProcess(process, directory, stdin, stdout, stderr)
    if stderr is None and stdout is not None:
        made.take_terminal(stdout)
    return made

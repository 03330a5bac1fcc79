"""The runtime seam's streams over ordinary processes of this machine, so that tar, cat and sh are the real ones."""

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Sequence

from corral.agent.runtime.api import RuntimeFailure


class LocalProcess:
    """A process with pipes or a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int | None) -> None:
        self._process = process
        self._master = master
        self._paused = asyncio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def write_stdin(self, data: bytes) -> None:
        if self._master is not None:
            os.write(self._master, data)
        elif self._process.stdin is not None:
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stdout(self) -> AsyncIterator[bytes]:
        if self._master is not None:
            async for chunk in self._terminal(self._master):
                yield chunk
        elif self._process.stdout is not None:
            while chunk := await self._process.stdout.read(65_536):
                yield chunk

    async def _terminal(self, master: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(master, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                try:
                    chunk = os.read(master, 65_536)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not chunk:
                    return
                yield chunk
        finally:
            loop.remove_reader(master)

    async def stderr(self) -> AsyncIterator[bytes]:
        while self._process.stderr is not None and (chunk := await self._process.stderr.read(65_536)):
            yield chunk

    async def resize(self, width: int, height: int) -> None:
        if self._master is not None:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._master is not None:
            os.close(self._master)
            self._master = None


class LocalRuntime:
    """Only what the streams use of a runtime."""

    def __init__(self) -> None:
        self.processes: list[LocalProcess] = []
        self.main: Sequence[str] = ("cat",)

    async def exec(
        self, container_id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False
    ) -> LocalProcess:
        try:
            process = await self._terminal(argv) if tty else await self._piped(argv, stdin)
        except FileNotFoundError as error:
            raise RuntimeFailure("RunContainerError", f"{argv[0]}: executable file not found in $PATH") from error
        self.processes.append(process)
        return process

    async def attach(self, container_id: str, *, stdin: bool = False) -> LocalProcess:
        return await self.exec(container_id, self.main, stdin=stdin)

    def network_namespace(self, sandbox_id: str) -> str:
        return ""

    async def _piped(self, argv: Sequence[str], stdin: bool) -> LocalProcess:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=pipe if stdin else asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
        return LocalProcess(process, None)

    async def _terminal(self, argv: Sequence[str]) -> LocalProcess:
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        finally:
            os.close(slave)
        return LocalProcess(process, master)

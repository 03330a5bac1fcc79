"""Processes in memory, without a kernel: coroutines that read stdin, write output and return an exit code."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from corral.base.clock import Clock

Program = Callable[["FakeProcess"], Awaitable[int]]
"""What a fake container runs: gets its process, returns the exit code."""

_CHUNKS = 64


class FakePipe:
    """A bounded stream of byte chunks with an end."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS)
        self._ended = False

    async def put(self, data: bytes) -> None:
        if not self._ended:
            await self._chunks.put(data)

    def end(self) -> None:
        """No more chunks follow; a reader gets what is there and then the end."""
        if not self._ended:
            self._ended = True
            if self._chunks.full():
                self._chunks.get_nowait()
            self._chunks.put_nowait(None)

    async def chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
        self._chunks.put_nowait(None)


class FakeProcess:
    """A running program: its arguments, streams, signals and end."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], clock: Clock, *, tty: bool, stdin: bool) -> None:
        self.argv = list(argv)
        self.env = dict(env)
        self.clock = clock
        self.tty = tty
        self.size = (0, 0)
        self.ignored_signals: set[int] = set()
        self.input = FakePipe()
        self.on_output: Callable[[str, bytes], Awaitable[None]] | None = None
        self._output = {"stdout": FakePipe(), "stderr": FakePipe()}
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        if not stdin:
            self.input.end()

    # What a program calls.

    def stdin(self) -> AsyncIterator[bytes]:
        return self.input.chunks()

    async def write(self, data: bytes, stream: str = "stdout") -> None:
        """Write to `stdout` or `stderr` (a tty has only stdout)."""
        stream = "stdout" if self.tty else stream
        if self.on_output is not None:
            await self.on_output(stream, data)
        else:
            await self._output[stream].put(data)

    # What the runtime calls.

    def run(self, program: Program) -> None:
        self._task = asyncio.create_task(self._run(program), name=f"fake {self.argv[0]}")

    async def _run(self, program: Program) -> None:
        try:
            self.finish(await program(self))
        except asyncio.CancelledError:
            self.finish(128 + signal.SIGKILL)
            raise

    def finish(self, code: int) -> None:
        if self._exit.done():
            return
        self._exit.set_result(code)
        for pipe in self._output.values():
            pipe.end()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def signal(self, number: int) -> None:
        if number == signal.SIGKILL or number not in self.ignored_signals:
            self.finish(128 + number)

    @property
    def exited(self) -> asyncio.Future[int]:
        return self._exit

    # What a holder of the streams calls (the seam's Process).

    async def write_stdin(self, data: bytes) -> None:
        await self.input.put(data)

    async def close_stdin(self) -> None:
        self.input.end()

    def stdout(self) -> AsyncIterator[bytes]:
        return self._output["stdout"].chunks()

    def stderr(self) -> AsyncIterator[bytes]:
        if self.tty:
            self._output["stderr"].end()
        return self._output["stderr"].chunks()

    async def resize(self, width: int, height: int) -> None:
        self.size = (width, height)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def close(self) -> None:
        self.finish(128 + signal.SIGKILL)


class FakeAttachment:
    """Streams to a container's main process; many may be attached at once."""

    def __init__(self, main: FakeProcess, stdin: bool, let_go: Callable[["FakeAttachment"], None]) -> None:
        self._main = main
        self._stdin = stdin
        self._let_go = let_go
        self.output = {"stdout": FakePipe(), "stderr": FakePipe()}
        if main.tty:
            self.output["stderr"].end()

    async def write_stdin(self, data: bytes) -> None:
        if self._stdin:
            await self._main.write_stdin(data)

    async def close_stdin(self) -> None:
        if self._stdin:
            await self._main.close_stdin()

    def stdout(self) -> AsyncIterator[bytes]:
        return self.output["stdout"].chunks()

    def stderr(self) -> AsyncIterator[bytes]:
        return self.output["stderr"].chunks()

    async def resize(self, width: int, height: int) -> None:
        await self._main.resize(width, height)

    async def wait(self) -> int:
        return await self._main.wait()

    async def close(self) -> None:
        self._let_go(self)
        for pipe in self.output.values():
            pipe.end()


async def _true(process: FakeProcess) -> int:
    return 0


async def _false(process: FakeProcess) -> int:
    return 1


async def _echo(process: FakeProcess) -> int:
    await process.write((" ".join(process.argv[1:]) + "\n").encode())
    return 0


async def _cat(process: FakeProcess) -> int:
    async for chunk in process.stdin():
        await process.write(chunk)
    return 0


async def _sleep(process: FakeProcess) -> int:
    if process.argv[1] in ("inf", "infinity"):
        await asyncio.get_running_loop().create_future()
    await process.clock.sleep(float(process.argv[1]))
    return 0


async def _env(process: FakeProcess) -> int:
    await process.write("".join(f"{name}={value}\n" for name, value in process.env.items()).encode())
    return 0


async def _sh(process: FakeProcess) -> int:
    """`sh -c` for the little that tests say: statements with `;`, `>&2`, `exit N`, `trap '' TERM`, and the others."""
    code = 0
    words_of = process.argv
    for statement in words_of[2].split(";"):
        words = statement.split()
        stream = "stdout"
        if words and words[-1] == ">&2":
            words, stream = words[:-1], "stderr"
        if not words:
            continue
        if words[0] == "exec":
            words = words[1:]
        if words[0] == "exit":
            return int(words[1])
        if words[0] == "trap":
            process.ignored_signals.add(getattr(signal, f"SIG{words[-1]}"))
        elif words[0] == "echo":
            await process.write((" ".join(words[1:]) + "\n").encode(), stream)
            code = 0
        elif words[0] in PROGRAMS:
            process.argv = words
            code = await PROGRAMS[words[0]](process)
        else:
            await process.write(f"sh: 1: {words[0]}: not found\n".encode(), "stderr")
            code = 127
    return code


PROGRAMS: dict[str, Program] = {
    "true": _true,
    "false": _false,
    "echo": _echo,
    "cat": _cat,
    "sleep": _sleep,
    "env": _env,
    "sh": _sh,
    "/bin/sh": _sh,
}

"""The client's end of exec and attach: Kubernetes' remote command protocol over a WebSocket (v5, or v4).

Each message is one channel byte and data: 0 stdin, 1 stdout, 2 stderr, 3 the `Status` that ends it, 4 the terminal's
size; 255 with a channel byte closes that channel (v5 only), which is how the end of standard input is told.
"""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty as terminal_modes
from collections.abc import AsyncIterator, Iterator, Sequence

import aiohttp
import orjson

from corral.cli import terminal
from corral.cli.session import Session
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


async def execute(session: Session, pod: str, container: str, argv: Sequence[str], *, stdin: bool, tty: bool) -> int:
    """Run `argv` in a container with this process' streams; returns its exit code.

    Raises:
        StatusError: it could not be started.
    """
    query = [("command", part) for part in argv]
    return await _stream(session, pod, "exec", container, query, stdin, tty)


async def attach(session: Session, pod: str, container: str, *, stdin: bool, tty: bool) -> None:
    """Connect this process' streams with a running container's until it ends."""
    await _stream(session, pod, "attach", container, [], stdin, tty)


async def _stream(
    session: Session, pod: str, verb: str, container: str, query: list[tuple[str, str]], stdin: bool, tty: bool
) -> int:
    query = [*query, ("container", container), ("stdout", "true")]
    query += [("stderr", "true")] if not tty else [("tty", "true")]
    query += [("stdin", "true")] if stdin else []
    path = PODS.path(session.namespace, pod, verb)
    async with session.websocket(path, query, PROTOCOLS) as socket:
        with _raw_terminal() if tty and stdin else contextlib.nullcontext():
            senders = []
            if tty:
                senders.append(asyncio.create_task(_send_sizes(socket), name="terminal size"))
            if stdin:
                senders.append(asyncio.create_task(_send_input(socket), name="standard input"))
            try:
                return await _receive(socket)
            finally:
                for sender in senders:
                    sender.cancel()


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> int:
    code = 0
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel in (STDOUT, STDERR) and data:
            await asyncio.to_thread(terminal.write_all, channel, data)
        elif channel == ERROR and data:
            code = exit_code(orjson.loads(data))
    return code


def exit_code(status: Obj) -> int:
    """The exit code in the final `Status` of a remote command.

    Raises:
        StatusError: it did not run.
    """
    if status.get("status") == "Success":
        return 0
    if status.get("reason") == "NonZeroExitCode":
        for cause in status.get("details", {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    raise StatusError.from_status(status)


async def _send_input(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for data in _standard_input():
        await socket.send_bytes(bytes([STDIN]) + data)
    if socket.protocol == PROTOCOLS[0]:
        await socket.send_bytes(bytes([CLOSE, STDIN]))


async def _standard_input() -> AsyncIterator[bytes]:
    """Standard input as it comes. A reader of its own thread, because a file cannot be polled."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)
    descriptor = sys.stdin.fileno()

    def read() -> None:
        with contextlib.suppress(RuntimeError, OSError):
            while True:
                data = os.read(descriptor, 1 << 15)
                asyncio.run_coroutine_threadsafe(queue.put(data), loop).result()
                if not data:
                    return

    import threading

    # A daemon: a read that waits for a key must not keep the process from ending.
    threading.Thread(target=read, name="stdin", daemon=True).start()
    while data := await queue.get():
        yield data


async def _send_sizes(socket: aiohttp.ClientWebSocketResponse) -> None:
    changed = asyncio.Event()
    changed.set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, changed.set)
    try:
        while await changed.wait():
            changed.clear()
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(sys.stdout.fileno())
                message = orjson.dumps({"Width": size.columns, "Height": size.lines})
                await socket.send_bytes(bytes([RESIZE]) + message)
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """The local terminal passes every key on, and is as it was afterwards."""
    descriptor = sys.stdin.fileno()
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    terminal_modes.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

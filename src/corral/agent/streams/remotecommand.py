"""Exec and attach, whatever carries them: five streams on one side, a process on the other.

The protocol versions are those of Kubernetes' remotecommand: up to v3 the error stream carries text, from v4 on a
`Status` whose cause `ExitCode` is the exit code; resizing came with v3; v5 lets a WebSocket client end stdin.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from corral.agent.runtime.api import Process
from corral.base.errors import CorralError
from corral.kinds.status import bad_request
from corral.kinds.types import Obj

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What the client wants of the process's streams."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, query: Mapping[str, str], command: Sequence[str]) -> "Options":
        """Read a query in the API's words (stdin, stdout, stderr) or in kubelet's (input, output, error).

        Raises:
            StatusError: 400, no stream at all is asked for.
        """

        def wants(*names: str) -> bool:
            return any(query.get(name, "").lower() in ("1", "true") for name in names)

        tty = wants("tty")
        options = cls(
            stdin=wants("stdin", "input"),
            stdout=wants("stdout", "output"),
            # A terminal has one output.
            stderr=wants("stderr", "error") and not tty,
            tty=tty,
            command=tuple(command),
        )
        if not (options.stdin or options.stdout or options.stderr):
            raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
        return options


class Client(Protocol):
    """The client's end: what a carrier offers."""

    version: int
    gone: asyncio.Event
    """Set when the client went away."""

    def stdin(self) -> AsyncIterator[bytes]:
        """What the client types, until it ends its input or goes away."""

    def sizes(self) -> AsyncIterator[bytes]:
        """The terminal's sizes as JSON documents, possibly in pieces."""

    async def stdout(self, data: bytes) -> None: ...

    async def stderr(self, data: bytes) -> None: ...

    async def finish(self, error: bytes) -> None:
        """Send the last word on the error stream and end all streams."""


async def serve(process: Process, client: Client, options: Options, *, attached: bool = False) -> None:
    """Join a process to a client until the process has ended or the client is gone, then let go of the process.

    The client is told the exit code, unless it is `attached` to a container's main process: how that ended stands in
    the pod's status, and kubectl takes anything but success for a broken attach.
    """
    feeders = [asyncio.create_task(_feed_sizes(process, client), name="resize")]
    if options.stdin:
        feeders.append(asyncio.create_task(_feed_stdin(process, client), name="stdin"))
    end = asyncio.create_task(_run_out(process, client, options), name="output")
    gone = asyncio.create_task(client.gone.wait(), name="client gone")
    try:
        await asyncio.wait((end, gone), return_when=asyncio.FIRST_COMPLETED)
        if end.done():
            await client.finish(_last_word(end, client.version, attached=attached))
    except* ConnectionError:
        log.debug("the client went away before it was told the end")
    finally:
        tasks = [*feeders, end, gone]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await process.close()


def _last_word(end: asyncio.Task[int], version: int, *, attached: bool) -> bytes:
    """What the client is told about the end, or about why there is none to tell."""
    try:
        code = end.result()
    except CorralError as error:
        return failure_word(error.message, version)
    return final_word(0 if attached else code, version)


async def _run_out(process: Process, client: Client, options: Options) -> int:
    """Deliver all output, then return the exit code."""

    async def deliver(chunks: AsyncIterator[bytes], wanted: bool, stdout: bool) -> None:
        # What nobody asked for is read all the same: a full pipe would stop the process.
        async for chunk in chunks:
            if wanted:
                await (client.stdout(chunk) if stdout else client.stderr(chunk))

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver(process.stdout(), options.stdout, True))
        group.create_task(deliver(process.stderr(), options.stderr, False))
    return await process.wait()


async def _feed_stdin(process: Process, client: Client) -> None:
    try:
        async for data in client.stdin():
            await process.write_stdin(data)
        # A client that is gone ends the process anyway; only one that is there ends its input.
        if not client.gone.is_set():
            await process.close_stdin()
    except (OSError, CorralError) as error:
        # The process stopped reading; its end tells the client.
        log.debug("stdin is not read any more: %s", error)
        async for _ in client.stdin():
            pass


async def _feed_sizes(process: Process, client: Client) -> None:
    decoder, text = json.JSONDecoder(), ""
    async for piece in client.sizes():
        text = (text + piece.decode("utf-8", "replace")).lstrip()
        while text:
            try:
                size, end = decoder.raw_decode(text)
            except ValueError:
                # Incomplete, or nonsense: more than a size's length of it is dropped.
                text = text if len(text) < 256 else ""
                break
            text = text[end:].lstrip()
            width, height = size_of(size)
            if width and height:
                await process.resize(width, height)


def size_of(document: object) -> tuple[int, int]:
    """Width and height of a TerminalSize; zeros if it is none."""
    if not isinstance(document, dict):
        return 0, 0
    width, height = document.get("Width"), document.get("Height")
    if isinstance(width, int) and isinstance(height, int) and 0 < width < 65_536 and 0 < height < 65_536:
        return width, height
    return 0, 0


def exit_status(code: int) -> Obj:
    """The `Status` that tells an exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def final_word(code: int, version: int) -> bytes:
    """What the error stream says when the process has ended."""
    if version >= 4:
        return json.dumps(exit_status(code)).encode()
    if code == 0:
        return b""
    return f"error executing remote command: {exit_status(code)['message']}".encode()


def failure_word(message: str, version: int) -> bytes:
    """What the error stream says when there never was a process."""
    if version < 4:
        return message.encode()
    status = {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
    return json.dumps(status).encode()

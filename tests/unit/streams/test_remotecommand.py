import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.agent.streams.remotecommand import Options, exit_status, failure_word, final_word, serve, size_of
from corral.agent.streams.spdy_client import needed, negotiate
from corral.kinds.status import StatusError
from corral.testing.clock import FakeClock
from corral.testing.fake_process import FakeProcess


class Typist:
    """A client that types what it is given and keeps what it is shown."""

    def __init__(self, version: int = 4) -> None:
        self.version = version
        self.gone = asyncio.Event()
        self.typed: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.resized: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.shown: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.last_word: bytes | None = None

    async def stdin(self) -> AsyncIterator[bytes]:
        while (data := await self.typed.get()) is not None:
            yield data

    async def sizes(self) -> AsyncIterator[bytes]:
        while (data := await self.resized.get()) is not None:
            yield data

    async def stdout(self, data: bytes) -> None:
        self.shown["stdout"] += data

    async def stderr(self, data: bytes) -> None:
        self.shown["stderr"] += data

    async def finish(self, error: bytes) -> None:
        self.last_word = error


async def _cat(process: FakeProcess) -> int:
    async for chunk in process.stdin():
        await process.write(chunk)
    await process.write(b"bye", "stderr")
    return 3


async def _forever(process: FakeProcess) -> int:
    await asyncio.get_running_loop().create_future()
    return 0


def process(program: object, *, tty: bool = False) -> FakeProcess:
    made = FakeProcess(["x"], {}, FakeClock(), tty=tty, stdin=True)
    made.run(program)  # type: ignore[arg-type]
    return made


ALL = Options(stdin=True, stdout=True, stderr=True, tty=False, command=("x",))


async def test_input_output_and_the_exit_code() -> None:
    client = Typist()
    for data in (b"one ", b"two", None):
        client.typed.put_nowait(data)
    await asyncio.wait_for(serve(process(_cat), client, ALL), 5)
    assert client.shown == {"stdout": b"one two", "stderr": b"bye"}
    assert json.loads(client.last_word or b"") == exit_status(3)


async def test_what_is_not_asked_for_is_not_shown() -> None:
    client = Typist()
    client.typed.put_nowait(None)
    options = Options(stdin=True, stdout=True, stderr=False, tty=False)
    await asyncio.wait_for(serve(process(_cat), client, options), 5)
    assert client.shown["stderr"] == b""


async def test_a_client_that_goes_takes_the_process_along() -> None:
    client, running = Typist(), process(_forever)
    serving = asyncio.create_task(serve(running, client, ALL))
    await asyncio.sleep(0)
    client.gone.set()
    await asyncio.wait_for(serving, 5)
    assert await running.wait() == 137
    assert client.last_word is None


async def test_sizes_arrive_however_they_are_cut() -> None:
    client, running = Typist(), process(_forever, tty=True)
    serving = asyncio.create_task(serve(running, client, ALL))
    for piece in (b'{"Wid', b'th":80,"Height":24}{"Width":1', b'00,"Height":40}\n'):
        client.resized.put_nowait(piece)
    for _ in range(20):
        await asyncio.sleep(0)
    assert running.size == (100, 40)
    client.gone.set()
    await serving


@settings(deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_nonsense_is_no_size(document: object) -> None:
    assert size_of(document) == (0, 0)


def test_options() -> None:
    options = Options.parse({"stdin": "true", "stdout": "1", "stderr": "true", "tty": "true"}, ["a", "b"])
    assert options == Options(True, True, False, True, ("a", "b"))
    assert Options.parse({"input": "1", "error": "1"}, []) == Options(True, False, True, False)
    with pytest.raises(StatusError, match="at least 1 of stdin"):
        Options.parse({"tty": "1", "stdout": "false"}, [])


def test_versions() -> None:
    assert negotiate(["v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"]) == "v4.channel.k8s.io"
    assert negotiate(["v2.channel.k8s.io, channel.k8s.io"]) == "v2.channel.k8s.io"
    assert negotiate([]) == "channel.k8s.io"
    assert negotiate(["v9.channel.k8s.io"]) == ""
    assert needed(ALL, 4) == {"error", "stdin", "stdout", "stderr"}
    assert needed(Options(True, True, False, True), 4) == {"error", "stdin", "stdout", "resize"}
    assert needed(Options(True, True, False, True), 2) == {"error", "stdin", "stdout"}


def test_last_words() -> None:
    assert final_word(0, 3) == b""
    assert final_word(2, 3) == (
        b"error executing remote command: command terminated with non-zero exit code: exit status 2"
    )
    assert json.loads(final_word(0, 4)) == {"metadata": {}, "status": "Success"}
    status = json.loads(final_word(2, 5))
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "2"}]
    assert json.loads(failure_word("no", 4))["message"] == "Internal error occurred: no"
    assert failure_word("no", 1) == b"no"

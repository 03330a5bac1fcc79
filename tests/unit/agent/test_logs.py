"""Reading logs: parts joined, tails found, followers not lost over rotation."""

import asyncio
import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent.logs import LogOptions, read, tail_text
from corral.agent.rotation import MAX_FILES, LogRotator
from corral.testing.clock import FakeClock
from corral.testing.fake_runtime import FakeRuntime


def record(text: str, *, tag: str = "F", stream: str = "stdout", second: int = 0) -> str:
    return f"2026-01-01T00:00:{second:02}.000000001Z {stream} {tag} {text}\n"


async def collect(path: Path, options: LogOptions | None = None, *, over: bool = True) -> str:
    ended = asyncio.Event()
    if over:
        ended.set()
    return b"".join([chunk async for chunk in read(path, options or LogOptions(), ended)]).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "c" / "0.log"
    path.parent.mkdir()
    path.write_text(
        record("one", second=1)
        + record("tw", tag="P", second=2)
        + record("o", second=3)
        + record("err", stream="stderr", second=4)
        + record("", second=5)
    )
    return path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (LogOptions(), "one\ntwo\nerr\n\n"),
        (LogOptions(tail=0), ""),
        (LogOptions(tail=1), "\n"),
        (LogOptions(tail=3), "two\nerr\n\n"),
        (LogOptions(tail=99), "one\ntwo\nerr\n\n"),
        (LogOptions(limit=5), "one\nt"),
        (LogOptions(stream="stderr"), "err\n"),
        (LogOptions(since=datetime(2026, 1, 1, 0, 0, 4, tzinfo=UTC)), "err\n\n"),
        (LogOptions(timestamps=True, tail=3, limit=37), "2026-01-01T00:00:02.000000001Z two\n20"),
    ],
)
@pytest.mark.parametrize("follow", [False, True])
async def test_reading(log: Path, options: LogOptions, text: str, follow: bool) -> None:
    wanted = LogOptions(follow, options.tail, options.since, options.limit, options.timestamps, options.stream)
    assert await collect(log, wanted) == text


async def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await collect(tmp_path / "none" / "0.log") == ""


async def test_torn_lines_are_left_out(log: Path) -> None:
    with log.open("a") as stream:
        stream.write("garbage\n2026-01-01T00:00:09Z stdout F torn but whole")
    assert (await collect(log)).endswith("\n\ntorn but whole\n")


@given(st.lists(st.tuples(st.text("ab", max_size=5), st.booleans()), max_size=50), st.integers(0, 60))
def test_tails_are_the_end_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, bool]], tail: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "0.log"
    whole = ""
    text = ""
    for content, partial in lines:
        whole += record(content, tag="P" if partial else "F")
        text += content + ("" if partial else "\n")
    # A part without its end belongs to no line; logs of ended containers have none.
    whole += record("end")
    text += "end\n"
    path.write_text(whole)
    expected = "".join(text.splitlines(keepends=True)[-tail:]) if tail else ""
    assert tail_text(path, lines=tail, size=1 << 20) == expected


def test_long_tails_are_read_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(record(f"line {index} " + "x" * 100) for index in range(5000)))
    found = tail_text(path, lines=2000, size=1 << 30).splitlines()
    assert (len(found), found[0][:9], found[-1][:9]) == (2000, "line 3000", "line 4999")


async def test_rotated_files_come_first_and_may_be_packed(log: Path) -> None:
    (log.parent / "0.log.20260101-000000.gz").write_bytes(gzip.compress(record("first").encode()))
    (log.parent / "0.log.20260102-000000").write_text(record("second"))
    assert await collect(log) == "first\nsecond\none\ntwo\nerr\n\n"
    assert await collect(log, LogOptions(tail=5)) == "second\none\ntwo\nerr\n\n"
    assert await collect(log, LogOptions(follow=True)) == "first\nsecond\none\ntwo\nerr\n\n"


async def test_following_over_rotation_loses_nothing(log: Path) -> None:
    ended = asyncio.Event()
    seen: list[str] = []

    async def follow() -> None:
        async for chunk in read(log, LogOptions(follow=True, tail=0), ended):
            seen.append(chunk.decode())

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    with log.open("a") as writer:
        writer.write(record("before"))
        writer.flush()
        log.rename(log.with_name("0.log.20260101-000000"))
        # The writer goes on in the old file until it is told to reopen.
        writer.write(record("late"))
    log.write_text(record("after"))
    ended.set()
    await asyncio.wait_for(task, 5)
    assert "".join(seen) == "before\nlate\nafter\n"


async def test_following_waits_and_then_ends(tmp_path: Path) -> None:
    path = tmp_path / "c" / "0.log"
    ended = asyncio.Event()
    chunks = read(path, LogOptions(follow=True), ended)
    first = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.01)
    assert not first.done()
    path.write_text(record("hello"))
    assert await asyncio.wait_for(first, 5) == b"hello\n"
    ended.set()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)


async def test_rotation_keeps_a_few_files(tmp_path: Path) -> None:
    clock = FakeClock()
    runtime = FakeRuntime(clock, tmp_path / "r")
    path = tmp_path / "0.log"
    rotator = LogRotator(runtime, clock, lambda: [("id", path)])
    for index in range(8):
        path.write_text(record(f"number {index}"))
        await rotator.rotate("id", path)
        await clock.advance(10)
    rotated = sorted(found.name for found in tmp_path.glob("0.log.*"))
    assert len(rotated) == MAX_FILES - 1
    assert [name.endswith(".gz") for name in rotated] == [True] * 3 + [False]
    assert ("reopen_log", "id") in runtime.calls
    text = await collect(path)
    assert text == "".join(f"number {index}\n" for index in range(4, 8))


async def test_only_large_logs_are_rotated(tmp_path: Path) -> None:
    clock = FakeClock()
    runtime = FakeRuntime(clock, tmp_path / "r")
    small, large = tmp_path / "small.log", tmp_path / "large.log"
    small.write_text("x")
    large.write_text("x" * 100)
    rotator = LogRotator(runtime, clock, lambda: [("small", small), ("large", large)], max_bytes=100)
    task = asyncio.create_task(rotator.run())
    await clock.advance(10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [key for call, key in runtime.calls if call == "reopen_log"] == ["large"]


async def test_a_log_that_cannot_be_reopened_stays(tmp_path: Path) -> None:
    clock = FakeClock()
    runtime = FakeRuntime(clock, tmp_path / "r")
    runtime.fail("reopen_log", OSError("no conmon"))
    path = tmp_path / "0.log"
    path.write_text("x")
    with pytest.raises(OSError, match="no conmon"):
        await LogRotator(runtime, clock, list).rotate("id", path)
    assert path.read_text() == "x"

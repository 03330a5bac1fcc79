"""Reading container logs in the CRI format: `TIME STREAM TAG CONTENT`; tag P is a part of a line, F its end.

A container's log is its rotated files, oldest first (`0.log.20060102-150405`, perhaps compressed), and the current one
(`0.log`). Following goes on over rotation: the open file is read to its end before the next one is begun.
"""

import asyncio
import gzip
import io
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from corral.agent.inotify import DirectoryWatch
from corral.agent.waiting import first

_CHUNK = 64 * 1024
_BATCH = 256 * 1024


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What `kubectl logs` may ask for."""

    follow: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None
    timestamps: bool = False
    stream: str = ""
    """`stdout`, `stderr`, or empty for both."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record of a log file."""

    stamp: bytes
    stream: bytes
    partial: bool
    content: bytes


def parse(raw: bytes) -> Line | None:
    """A record from its line without the newline; None if it is not one (a torn write)."""
    parts = raw.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    return Line(parts[0], parts[1], parts[2][:1] == b"P", parts[3] if len(parts) > 3 else b"")


def files(path: Path) -> list[Path]:
    """The log's files that exist, oldest first."""
    rotated = sorted(path.parent.glob(f"{path.name}.*")) if path.parent.is_dir() else []
    return [found for found in rotated if not found.name.endswith(".tmp")] + ([path] if path.exists() else [])


async def read(path: Path, options: LogOptions, ended: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """The log as bytes for the user, in chunks. With `follow` it goes on until `ended` is set and all is read."""
    render = _Renderer(options)
    if not options.follow:
        for chunk in _whole(path, options, render):
            yield chunk
            await asyncio.sleep(0)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with DirectoryWatch(path.parent) as watch:
        async with aclosing(_follow(path, options, render, ended, watch)) as chunks:
            async for chunk in chunks:
                yield chunk


def _whole(path: Path, options: LogOptions, render: "_Renderer") -> Iterator[bytes]:
    return _batches(_records(path, options.tail), render)


def _batches(records: Iterator[bytes], render: "_Renderer") -> Iterator[bytes]:
    """Records as chunks for the user."""
    for raw in records:
        render.add(raw)
        if render.size >= _BATCH or render.full:
            yield render.take()
        if render.full:
            return
    rest = render.take()
    if rest:
        yield rest


def _records(path: Path, tail: int | None, end: int = -1) -> Iterator[bytes]:
    """Records of all files, or those that make the last `tail` lines; the current file counts up to `end` only."""
    everything = files(path)
    if tail is None:
        for found in everything:
            yield from _records_of(found)
        return
    blocks: list[list[bytes]] = []
    missing = tail
    for found in reversed(everything):
        if missing <= 0:
            break
        records = _last_records(found, missing, end if found == path else -1)
        missing -= sum(1 for raw in records if not _is_partial(raw))
        blocks.append(records)
    for block in reversed(blocks):
        yield from block


def _records_of(path: Path) -> Iterator[bytes]:
    with _open(path) as stream:
        for raw in stream:
            yield raw.rstrip(b"\n")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _is_partial(raw: bytes) -> bool:
    line = parse(raw)
    return line is not None and line.partial


def _last_records(path: Path, lines: int, end: int = -1) -> list[bytes]:
    """Records before `end` (-1: the file's end) that make the last `lines` lines, reading backwards in blocks."""
    with _open(path) as stream:
        if path.suffix == ".gz":
            return _cut(stream.read().split(b"\n"), lines)
        end = stream.seek(0, io.SEEK_END) if end < 0 else end
        tail = b""
        while end > 0:
            start = max(0, end - _CHUNK)
            stream.seek(start)
            tail = stream.read(end - start) + tail
            end = start
            # With one line more than asked for, the first one asked for is whole.
            if tail.count(b"\n") > lines and sum(not _is_partial(raw) for raw in tail.split(b"\n")[1:] if raw) > lines:
                return _cut(tail.split(b"\n")[1:], lines)
        return _cut(tail.split(b"\n"), lines)


def _cut(records: list[bytes], lines: int) -> list[bytes]:
    """The records of the last `lines` lines."""
    records = [raw for raw in records if raw]
    seen = 0
    for index in range(len(records) - 1, -1, -1):
        if not _is_partial(records[index]):
            seen += 1
            if seen > lines:
                return records[index + 1 :]
    return records


async def _follow(
    path: Path, options: LogOptions, render: "_Renderer", ended: asyncio.Event, watch: DirectoryWatch
) -> AsyncGenerator[bytes, None]:
    """What is there, then what comes, over rotations, until the container has ended."""
    reader = _Reader(path)
    try:
        for chunk in _batches(_history(path, options.tail, reader), render):
            yield chunk
        while not render.full:
            watch.changed.clear()
            # Whether it has ended must be known before reading: what is written last is then read for sure.
            over = ended.is_set()
            records = reader.batch()
            for raw in records:
                render.add(raw)
            chunk = render.take()
            if chunk:
                yield chunk
            elif not records and over:
                return
            elif not records:
                await first(watch.changed.wait(), ended.wait())
    finally:
        reader.close()


def _history(path: Path, tail: int | None, reader: "_Reader") -> Iterator[bytes]:
    """What the reader, which is given its place first, will not tell: nothing is told twice or left out."""
    if tail is not None:
        yield from _records(path, tail, reader.skip_to_end())
        return
    current = reader.start()
    for found in files(path):
        if found.stat().st_ino != current:
            yield from _records_of(found)


class _Reader:
    """Reads whole records from the current file, and goes on to the next when it was rotated away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None
        self._rest = b""

    def start(self) -> int:
        """Open the current file, if it is there; its inode, or 0."""
        return _inode_of(self._stream) if self._open() and self._stream is not None else 0

    def skip_to_end(self) -> int:
        """Start after the last whole record that is there now; returns where that is."""
        if not self._open() or self._stream is None:
            return 0
        size = self._stream.seek(0, io.SEEK_END)
        back = min(size, _CHUNK)
        self._stream.seek(size - back)
        tail = self._stream.read(back)
        return self._stream.seek(size - (len(tail) - tail.rfind(b"\n") - 1))

    def batch(self) -> list[bytes]:
        """The next records, at most a batch of them; none if there are none yet."""
        while self._open() and self._stream is not None:
            data = self._stream.read(_BATCH)
            if data:
                *whole, self._rest = (self._rest + data).split(b"\n")
                if whole:
                    return whole
            elif self._rotated():
                self.close()
            else:
                break
        return []

    def _open(self) -> bool:
        if self._stream is None:
            try:
                self._stream = self._path.open("rb")
            except FileNotFoundError:
                return False
        return True

    def _rotated(self) -> bool:
        """Another file stands at the path, and the open one was read to its end."""
        if self._stream is None:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return there.st_ino != _inode_of(self._stream)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._rest = b""


def _inode_of(stream: IO[bytes]) -> int:
    return os.fstat(stream.fileno()).st_ino


class _Renderer:
    """Turns records into what the user sees, within the limit."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._stream = options.stream.lower().encode()
        self._since = options.since.astimezone(UTC) if options.since else None
        self._continues: dict[bytes, bool] = {}
        self._buffer = bytearray()
        self._left = options.limit
        self.full = options.limit == 0

    @property
    def size(self) -> int:
        return len(self._buffer)

    def add(self, raw: bytes) -> None:
        line = parse(raw)
        if line is None or self.full or (self._stream and line.stream != self._stream):
            return
        if self._since is not None and _moment(line.stamp) < self._since:
            return
        # Parts of one line get one time stamp, at its beginning.
        begins = not self._continues.get(line.stream, False)
        self._continues[line.stream] = line.partial
        text = line.content if line.partial else line.content + b"\n"
        if self._options.timestamps and begins:
            text = line.stamp + b" " + text
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
            self.full = self._left <= 0
        self._buffer += text

    def take(self) -> bytes:
        chunk = bytes(self._buffer)
        self._buffer.clear()
        return chunk


def _moment(stamp: bytes) -> datetime:
    """A time stamp with up to nanoseconds, which Python reads to microseconds."""
    text = stamp.decode("ascii", errors="replace")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)


def tail_text(path: Path, *, lines: int, size: int) -> str:
    """The last lines of a log as text of at most `size` bytes, for termination messages."""
    render = _Renderer(LogOptions())
    for raw in _records(path, lines):
        render.add(raw)
    return render.take()[-size:].decode(errors="replace")

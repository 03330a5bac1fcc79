"""A store's contents as one file, which any store can be filled from.

Gzip of JSON lines: a header (format, number of entries, revision, when), an entry a line in the order of their last
writes (key, revision, value in base64), and a last line with the SHA-256 of everything before it, by which a file that
was cut off or changed is known.
"""

import asyncio
import base64
import contextlib
import gzip
import hashlib
import io
import os
import secrets
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from corral.base.errors import CorralError
from corral.store.protocol import Conflict, Entry, Store

FORMAT: Final = "corral-backup/1"
_AT_ONCE = 64
_LONGEST_LINE = 64 << 20


class Item(Protocol):
    """What a backup keeps of an entry."""

    @property
    def key(self) -> str: ...

    @property
    def value(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One key and its value."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Backup:
    """What a file holds."""

    revision: int
    taken: str
    """When, RFC 3339."""
    records: Sequence[Record]


def lines(entries: Iterable[Entry], revision: int, taken: str) -> Iterator[bytes]:
    """The file's lines, before compression."""
    ordered = sorted(entries, key=lambda entry: entry.revision)
    digest = hashlib.sha256()
    header = {"format": FORMAT, "entries": len(ordered), "revision": revision, "taken": taken}
    for content in (header, *map(_line, ordered)):
        line = orjson.dumps(content) + b"\n"
        digest.update(line)
        yield line
    yield orjson.dumps({"sha256": digest.hexdigest()}) + b"\n"


def _line(entry: Entry) -> dict[str, Any]:
    return {"key": entry.key, "revision": entry.revision, "value": base64.b64encode(entry.value).decode()}


def compress(content: Iterable[bytes]) -> bytes:
    """The file's bytes."""
    made = io.BytesIO()
    with gzip.GzipFile(fileobj=made, mode="wb", compresslevel=6, mtime=0) as file:
        file.writelines(content)
    return made.getvalue()


def write(path: Path, content: Iterable[bytes]) -> None:
    """Write a backup of `lines`; see `save`."""
    save(path, compress(content))


def save(path: Path, data: bytes) -> None:
    """Write a file, all of it or nothing, readable by its owner only.

    Raises:
        CorralError: the file cannot be written.
    """
    # A name that nobody can have taken before: in a directory like /tmp the file would be his.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise CorralError(
            f"cannot write {path}: {error.strerror or error}", "free space, or choose another place"
        ) from error


def read(path: Path) -> Backup:
    """Read and verify a backup.

    Raises:
        CorralError: it cannot be read, is no backup, was cut off or changed.
    """
    digest = hashlib.sha256()
    header: dict[str, Any] = {}
    records: list[Record] = []
    try:
        with gzip.open(path) as file:
            while line := file.readline(_LONGEST_LINE):
                content = orjson.loads(line)
                if "sha256" in content:
                    break
                digest.update(line)
                if not header:
                    header = content
                    if header.get("format") != FORMAT:
                        raise _unusable(path, f"its format is {header.get('format')!r}")
                    continue
                records.append(Record(content["key"], base64.b64decode(content["value"], validate=True)))
            else:
                raise _unusable(path, "its end is missing")
        if content["sha256"] != digest.hexdigest() or header.get("entries") != len(records):
            raise _unusable(path, "it was changed: its checksum is another one")
        return Backup(int(header["revision"]), str(header["taken"]), records)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise _unusable(path, str(error)) from error


def _unusable(path: Path, why: str) -> CorralError:
    return CorralError(f"cannot use {path} as a backup: {why}", "choose another backup")


async def fill(store: Store, items: Sequence[Item], progress: Callable[[int, int], None]) -> None:
    """Write `items` to an empty store, in their order as far as it matters: the first of a key counts.

    Args:
        progress: told how many of how many are written.

    Raises:
        CorralError: the store is not empty, or cannot be written.
    """
    if store.current("/")[0]:
        raise CorralError("cannot fill a store that is not empty", "empty it first, or use --force")
    for at in range(0, len(items), _AT_ONCE):
        chunk = items[at : at + _AT_ONCE]
        outcomes = await asyncio.gather(*(store.create(item.key, item.value) for item in chunk))
        for item, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, Conflict):
                raise CorralError(f"cannot write {item.key}: somebody else has", "keep others away from the store")
        progress(at + len(chunk), len(items))


async def empty(store: Store) -> None:
    """Delete everything.

    Raises:
        CorralError: somebody else writes meanwhile, or the store cannot be written.
    """
    entries = store.current("/")[0]
    for at in range(0, len(entries), _AT_ONCE):
        chunk = entries[at : at + _AT_ONCE]
        outcomes = await asyncio.gather(*(store.delete(entry.key, entry.revision) for entry in chunk))
        if any(isinstance(outcome, Conflict) for outcome in outcomes):
            raise CorralError("cannot empty the store: somebody else writes to it", "stop the servers that use it")


def differences(store: Store, items: Iterable[Item]) -> list[str]:
    """Keys whose value is not the same in `store` and in `items`, or that only one of them has."""
    there = {entry.key: entry.value for entry in store.current("/")[0]}
    wanted = {item.key: item.value for item in items}
    return sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))

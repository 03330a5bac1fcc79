"""The SQLite file: its schema, how it is opened, read, appended to and compacted. Blocking; one thread at a time.

One append-only table, `log`, whose row id is the revision. A row with a NULL value is a delete. Rows that compaction
makes unreachable are deleted; `meta.compacted` says how far that has gone. A batch of writes is one INSERT, which is
its own transaction: it is atomic, and the interpreter lock changes hands once a batch instead of once a row. Values go
in as one blob that SQL cuts up.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from corral.base.errors import CorralError
from corral.store.protocol import Change, Entry, Full

_log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
FOLD_BYTES = 4 << 20
"""Above this much in the write-ahead log, `fold` is due (SQLite's own default is 1,000 pages, about the same)."""
APPLICATION_ID = 0x436F7272  # "Corr", so that file(1) and a human can tell what it is

_SCHEMA = """
CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT NOT NULL, created INTEGER NOT NULL, value BLOB);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('compacted', 0);
"""
_PAGE = 4096
# A commit writes whole pages: at least a leaf, often its parent.
_COMMIT_OVERHEAD = 2 * _PAGE
_INSERT_ONE = "INSERT INTO log VALUES (?, ?, ?, ?)"
# SQLite's substr makes NULL, which means a delete here, of a part of an empty blob.
_INSERT_MANY = (
    "INSERT INTO log SELECT value ->> 0, value ->> 1, value ->> 2,"
    " CASE WHEN value ->> 4 > 0 THEN substr(?2, value ->> 3, value ->> 4) WHEN value ->> 4 = 0 THEN x'' END"
    " FROM json_each(?1)"
)
_DELETE = "DELETE FROM log WHERE revision IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held when it was opened."""

    entries: dict[str, Entry]
    changes: list[Change]
    revision: int
    compacted: int


class Database:
    """An open file."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.unfolded = 0
        """About how many bytes the write-ahead log has grown since `fold`."""
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "Database":
        """Open or create the file, and keep others out of it until `close`.

        Raises:
            CorralError: another process has it open, it is of a newer version, it is not a store, or it is damaged.
        """
        if not path.exists():
            _create(path)
        elif path.is_file() and path.stat().st_size == 0:
            raise _damaged(path, "it is empty")
        _make_private(path)
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
        except sqlite3.Error as error:
            raise CorralError(f"cannot open the store {path}: {error}", "check the directory and its rights") from error
        try:
            _configure(connection, path)
        except sqlite3.Error as error:
            connection.close()
            raise _opening_error(path, error) from error
        except CorralError:
            connection.close()
            raise
        return cls(path, connection)

    def load(self) -> Contents:
        """Everything in the file, in one ordered scan.

        Raises:
            CorralError: the file is damaged.
        """
        try:
            return self._scan()
        except sqlite3.Error as error:
            raise _damaged(self._path, str(error)) from error

    def _scan(self) -> Contents:
        compacted: int = self._connection.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()[0]
        entries: dict[str, Entry] = {}
        changes: list[Change] = []
        expected = compacted
        for revision, key, created, value in self._connection.execute(
            "SELECT revision, key, created, value FROM log ORDER BY revision"
        ):
            # A created key shares one integer object between both numbers.
            born = revision if created == revision else created
            if revision <= compacted:
                entries[key] = Entry(key, value, revision, born)
                continue
            expected += 1
            if revision != expected:
                raise _damaged(self._path, f"revision {expected} is missing")
            previous = entries.get(key)
            if value is None:
                if previous is None:
                    raise _damaged(self._path, f"revision {revision} deletes {key}, which does not exist")
                del entries[key]
                changes.append(Change("delete", Entry(key, previous.value, revision, born), previous))
            else:
                entry = entries[key] = Entry(key, value, revision, born)
                changes.append(Change("put", entry, previous))
        return Contents(entries, changes, expected, compacted)

    def append(self, changes: Sequence[Change]) -> None:
        """Add the changes as one durable transaction: all of them or none.

        Raises:
            Full: there is no space; nothing was written.
            sqlite3.Error: the file or the disk is broken.
        """
        try:
            if len(changes) == 1:
                change = changes[0]
                entry = change.entry
                value = None if change.type == "delete" else entry.value
                self._connection.execute(_INSERT_ONE, (entry.revision, entry.key, entry.created, value))
            else:
                self._connection.execute(_INSERT_MANY, _packed(changes))
        except sqlite3.Error as error:
            self._roll_back()
            raise self._full(error) from error
        self.unfolded += _COMMIT_OVERHEAD + sum([len(change.entry.value) for change in changes])

    def compact(self, superseded: Sequence[int], revision: int) -> None:
        """Delete the rows `superseded` and record that history below `revision` is gone, atomically.

        Raises:
            Full: there is no space; nothing was changed.
            sqlite3.Error: the file or the disk is broken.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(_DELETE, (orjson.dumps(superseded).decode(),))
            self._connection.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (revision,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            raise self._full(error) from error

        self.unfolded += _PAGE * len(superseded)

    def fold(self) -> None:
        """Move the write-ahead log into the file, as far as there is space for it.

        Raises:
            sqlite3.Error: the file or the disk is broken.
        """
        self.unfolded = 0
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error as error:
            full = self._full(error)
            if not isinstance(full, Full):
                raise
            _log.warning("%s; its write-ahead log stays as long as it is", full.message)

    def close(self) -> None:
        """Give the file back; the write-ahead log is folded into it."""
        self._connection.close()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _full(self, error: sqlite3.Error) -> Exception:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            return Full(
                f"cannot write to the store {self._path}: no space left",
                f"make room on the disk of {self._path.parent}",
            )
        return error


def _packed(changes: Sequence[Change]) -> tuple[str, bytes]:
    rows: list[list[int | str | None]] = []
    values: list[bytes] = []
    offset = 1
    for change in changes:
        entry = change.entry
        if change.type == "delete":
            rows.append([entry.revision, entry.key, entry.created, None, None])
            continue
        size = len(entry.value)
        rows.append([entry.revision, entry.key, entry.created, offset, size])
        values.append(entry.value)
        offset += size
    return orjson.dumps(rows).decode(), b"".join(values)


def _create(path: Path) -> None:
    """Make an empty store under another name and give it its own when it is whole: an empty file is never a new store,
    but one that has lost its contents.

    Raises:
        CorralError: it cannot be made.
    """
    log, fresh = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}.new")
    if log.exists():
        raise CorralError(
            f"cannot open the store {path}: it is missing while its write-ahead log {log} is there",
            f"restore {path} from where it went; or move {log} away, too, to start with an empty cell",
        )
    try:
        for leftover in (fresh, path.with_name(f"{fresh.name}-journal")):
            leftover.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            for statement in _SCHEMA.strip().split("\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        fresh.replace(path)
        _sync_directory(path.parent)
    except sqlite3.Error as error:
        raise _opening_error(path, error) from error
    except OSError as error:
        raise CorralError(
            f"cannot create the store {path}: {error.strerror}", "check the directory and its rights"
        ) from error


def _configure(connection: sqlite3.Connection, path: Path) -> None:
    # Exclusive locking keeps the write-ahead log's index in this process's memory and any other process out.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise CorralError(
            f"cannot open the store {path}: it has version {version}, this Corral knows up to {SCHEMA_VERSION}",
            "start the Corral that wrote it, or a newer one, or choose another data directory",
        )
    if version == 0:
        raise CorralError(
            f"cannot open the store {path}: it is an SQLite file of something else", "choose another data directory"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # `fold` does it: at a time of the store's choosing, not within the commit of whoever comes across the limit.
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cell_size_check = ON")
    # The pages are read once, at the start; SQLite's own cache would hold them a second time.
    connection.execute("PRAGMA cache_size = -1024")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")


def _opening_error(path: Path, error: sqlite3.Error) -> CorralError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return CorralError(
            f"cannot open the store {path}: another process has it open",
            "stop the cell that uses this data directory, or choose another one",
        )
    if code == sqlite3.SQLITE_FULL:
        return Full(f"cannot open the store {path}: no space left", f"make room on the disk of {path.parent}")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    return CorralError(f"cannot open the store {path}: {error}", "check the file, its directory and their rights")


def _damaged(path: Path, what: str) -> CorralError:
    return CorralError(
        f"cannot read the store {path}: it is damaged ({what})",
        "restore it from a backup, or move it away to start with an empty cell",
    )


def _make_private(path: Path) -> None:
    """Every secret of the cell is in this file: its owner alone may read it. SQLite gives its mode to the journals."""
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with contextlib.suppress(OSError):  # what is wrong with it, SQLite says when it opens it
            file.chmod(0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

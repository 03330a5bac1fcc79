"""The directory that `corral run` sends: which files, and the archive of them.

Ignored is what git would ignore (`.gitignore` in any directory, `.git` itself) and what `.corralignore` names, in the
same syntax; a later rule wins, and `.corralignore` comes after `.gitignore`. The archive is reproducible (sorted names,
no owners, no time stamps beyond the files' own), so that the same tree has the same digest and is sent once.
"""

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from corral.base.errors import CorralError

IGNORE_FILES = (".gitignore", ".corralignore")


@dataclass(frozen=True, slots=True)
class Package:
    """An archive on disk: its SHA-256 in hex, its size in bytes, and how many files are in it."""

    path: Path
    digest: str
    size: int
    files: int


class _Rules:
    """The ignore rules in force in one directory: those of every directory above it, each relative to its own."""

    def __init__(self, parent: "_Rules | None", directory: Path, prefix: str) -> None:
        self._parent = parent
        self._prefix = prefix
        lines: list[str] = []
        for name in IGNORE_FILES:
            file = directory / name
            if file.is_file():
                lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
        self._spec = GitIgnoreSpec.from_lines(lines) if lines else None

    def ignores(self, path: str) -> bool:
        """Whether `path` (relative to the root, directories with a trailing slash) is left out."""
        rules: _Rules | None = self
        while rules is not None:
            if rules._spec is not None:
                verdict = rules._spec.check_file(path[len(rules._prefix) :]).include
                if verdict is not None:
                    return bool(verdict)
            rules = rules._parent
        return False


def files(root: Path) -> Iterator[str]:
    """The paths under `root` that are sent, relative to it, sorted; directories come before what is in them."""
    yield from _walk(root, "", None)


def _walk(root: Path, prefix: str, parent: _Rules | None) -> Iterator[str]:
    directory = root / prefix
    rules = _Rules(parent, directory, prefix)
    with os.scandir(directory) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name == ".git":
            continue
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if not rules.ignores(path + "/"):
                yield path
                yield from _walk(root, path + "/", rules)
        elif not rules.ignores(path):
            yield path


def pack(root: Path, target: Path) -> Package:
    """Write the archive of `root` to `target`.

    Raises:
        CorralError: a file cannot be read, or the disk is full.
    """
    count = 0
    try:
        # mtime=0 keeps the gzip header, and so the digest, independent of when the archive was made.
        with (
            target.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in files(root):
                count += _add(archive, root, path)
    except OSError as error:
        raise CorralError(
            f"cannot pack {root}: {error.strerror or error}: {error.filename or target}",
            "make the file readable, or leave it out by naming it in .corralignore",
        ) from error
    with target.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Package(target, digest, target.stat().st_size, count)


def _add(archive: tarfile.TarFile, root: Path, path: str) -> int:
    full = root / path
    mode = full.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return 0
    info = archive.gettarinfo(full, arcname=path)
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = int(info.mtime)
    if info.isreg():
        with full.open("rb") as file:
            archive.addfile(info, file)
        return 1
    archive.addfile(info)
    return 0

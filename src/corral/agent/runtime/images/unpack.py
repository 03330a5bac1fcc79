"""Unpack one layer of an image into a directory that overlayfs can use as a lower layer.

A program of its own (`python -m corral.agent.runtime.images.unpack BLOB DIRECTORY DIFF_ID`), so that the work and its
memory are not the agent's. The archive is not trusted:

- every path is resolved by the kernel inside the target directory (openat2, RESOLVE_IN_ROOT): neither `..` nor a
  symlink made by an earlier entry leads out, and a hard link's target is found the same way;
- device nodes are left out (a container gets its devices from the runtime), set-id bits and file capabilities stay;
- what comes out is limited in bytes and entries, and must have the digest the image's config says.

Whiteouts (OCI image spec, layer.md) become overlayfs' own: a 0/0 character device, or the attribute
`trusted.overlay.opaque`.
"""

import gzip
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from corral.agent.runtime import syscalls

MOST_BYTES = 64 << 30
MOST_ENTRIES = 2_000_000
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_XATTR = "SCHILY.xattr."
_ALLOWED_XATTRS = ("security.capability", "user.")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20


class LayerError(Exception):
    """The layer cannot be unpacked; the message says why."""


class _Source(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class _Measured(io.RawIOBase):
    """Counts and hashes what is read through it."""

    def __init__(self, source: _Source, most: int) -> None:
        super().__init__()
        self._source = source
        self._left = most
        self._most = most
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._source.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise LayerError(f"cannot unpack the layer: it holds more than {self._most} bytes")
        self._digest.update(data)
        buffer[: len(data)] = data
        return len(data)

    def finish(self) -> str:
        """Read to the end; the digest of all."""
        while self.read(_CHUNK):
            continue
        return f"sha256:{self._digest.hexdigest()}"


@contextmanager
def _decompressed(blob: Path) -> Iterator[_Source]:
    """The tar stream in `blob`, which may be compressed with gzip or zstd."""
    with blob.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(_GZIP):
            with gzip.open(file) as stream:
                yield stream
        elif magic == _ZSTD:
            with _zstd(blob) as stream:
                yield stream
        else:
            yield file


@contextmanager
def _zstd(blob: Path) -> Iterator[IO[bytes]]:
    try:
        process = subprocess.Popen(["zstd", "-dcq", str(blob)], stdout=subprocess.PIPE)
    except FileNotFoundError as error:
        raise LayerError("cannot unpack a zstd layer: zstd is missing (apt-get install -y zstd)") from error
    try:
        assert process.stdout is not None
        yield process.stdout
    finally:
        process.kill()
        process.wait()


class Unpacker:
    """Writes entries below `root`; nothing is ever written outside."""

    def __init__(self, root: Path, most_entries: int = MOST_ENTRIES) -> None:
        self._root = str(root)
        self._left = most_entries
        self._parents: dict[str, int] = {}

    def close(self) -> None:
        self._forget_parents()

    def _forget_parents(self) -> None:
        for descriptor in self._parents.values():
            os.close(descriptor)
        self._parents.clear()

    def add(self, entry: tarfile.TarInfo, data: IO[bytes] | None) -> None:
        """Write one entry.

        Raises:
            LayerError: the entry is not acceptable.
        """
        self._left -= 1
        if self._left < 0:
            raise LayerError("cannot unpack the layer: it has too many entries")
        parts = [part for part in entry.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise LayerError(f"cannot unpack the layer: {entry.name!r} leads out of it")
        if not parts:
            os.chmod(self._root, entry.mode & 0o7777)
            os.chown(self._root, entry.uid, entry.gid)
            return
        parent, base = self._parent("/".join(parts[:-1])), parts[-1]
        if base == _OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", "trusted.overlay.opaque", b"y")
        elif base.startswith(_WHITEOUT):
            self._replace(parent, base.removeprefix(_WHITEOUT), keep_directory=False)
            os.mknod(base.removeprefix(_WHITEOUT), stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        else:
            self._write(entry, parent, base, data)

    def _parent(self, path: str) -> int:
        """A descriptor of the directory `path`, made if it is missing."""
        known = self._parents.get(path)
        if known is not None:
            return known
        try:
            descriptor = syscalls.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            above, _, name = path.rpartition("/")
            upper = self._parent(above)
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=upper)
            descriptor = self._open_made(path)
        except NotADirectoryError as error:
            raise LayerError(f"cannot unpack the layer: {path!r} is not a directory") from error
        if len(self._parents) > 64:
            self._forget_parents()
        self._parents[path] = descriptor
        return descriptor

    def _open_made(self, path: str) -> int:
        try:
            return syscalls.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise LayerError(f"cannot unpack the layer: {path!r} is not a directory in it") from error

    def _replace(self, parent: int, base: str, *, keep_directory: bool) -> bool:
        """Remove what is at `base`; True when it is a directory that stays."""
        try:
            mode = os.stat(base, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(mode):
            if keep_directory:
                return True
            shutil.rmtree(base, dir_fd=parent)
        else:
            os.unlink(base, dir_fd=parent)
        self._forget_parents_but(parent)
        return False

    def _forget_parents_but(self, kept: int) -> None:
        """A directory may have been replaced: whatever was found before may be elsewhere now."""
        for path, descriptor in list(self._parents.items()):
            if descriptor != kept:
                os.close(descriptor)
                del self._parents[path]

    def _write(self, entry: tarfile.TarInfo, parent: int, base: str, data: IO[bytes] | None) -> None:
        if entry.ischr() or entry.isblk():
            return
        there = self._replace(parent, base, keep_directory=entry.isdir())
        if entry.isdir():
            if not there:
                os.mkdir(base, 0o700, dir_fd=parent)
        elif entry.issym():
            os.symlink(entry.linkname, base, dir_fd=parent)
        elif entry.islnk():
            self._link(entry, parent, base)
            return
        elif entry.isfifo():
            os.mkfifo(base, 0o600, dir_fd=parent)
        elif data is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(base, flags, 0o600, dir_fd=parent), "wb") as file:
                shutil.copyfileobj(data, file, _CHUNK)
        else:
            raise LayerError(f"cannot unpack the layer: {entry.name!r} is of an unknown type")
        self._own(entry, parent, base)

    def _link(self, entry: tarfile.TarInfo, parent: int, base: str) -> None:
        parts = [part for part in entry.linkname.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            raise LayerError(f"cannot unpack the layer: {entry.name!r} links out of it")
        try:
            source = syscalls.open_in_root(self._root, "/".join(parts[:-1]), os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise LayerError(f"cannot unpack the layer: {entry.name!r} links to nothing in it") from error
        try:
            os.link(parts[-1], base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            raise LayerError(f"cannot unpack the layer: {entry.name!r}: {error.strerror}") from error
        finally:
            os.close(source)

    def _own(self, entry: tarfile.TarInfo, parent: int, base: str) -> None:
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if not entry.issym():
            path = f"/proc/self/fd/{parent}/{base}"
            os.chmod(path, entry.mode & 0o7777)
            for name, value in entry.pax_headers.items():
                attribute = name.removeprefix(_XATTR)
                if name.startswith(_XATTR) and attribute.startswith(_ALLOWED_XATTRS):
                    os.setxattr(path, attribute, value.encode("utf-8", "surrogateescape"))
        os.utime(base, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)


def unpack(blob: Path, directory: Path, diff_id: str, most_bytes: int = MOST_BYTES) -> None:
    """Unpack `blob` into the new `directory`; its uncompressed content must have the digest `diff_id`.

    Raises:
        LayerError: it is not acceptable, or not what it should be; nothing is left then.
    """
    fresh = directory.with_name(f".{directory.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(parents=True, mode=0o755)
    unpacker = Unpacker(fresh)
    try:
        with _decompressed(blob) as stream:
            measured = _Measured(stream, most_bytes)
            with tarfile.open(fileobj=measured, mode="r|", bufsize=_CHUNK) as archive:
                for entry in archive:
                    unpacker.add(entry, archive.extractfile(entry) if entry.isreg() else None)
            found = measured.finish()
        if found != diff_id:
            raise LayerError(f"cannot trust the layer: it has digest {found}, the image says {diff_id}")
        unpacker.close()
        fresh.rename(directory)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise LayerError(f"cannot unpack the layer: {error}") from error
    finally:
        unpacker.close()
        if fresh.exists():
            shutil.rmtree(fresh)


def main() -> int:
    """The program: 0, or 1 with the reason on stderr."""
    os.umask(0)
    blob, directory, diff_id = sys.argv[1:]
    try:
        unpack(Path(blob), Path(directory), diff_id)
    except LayerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

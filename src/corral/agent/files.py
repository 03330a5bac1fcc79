"""Reading files out of a container or a volume as a tar stream.

What is read belongs to a stranger's program, which may be running: every name is opened below the root it belongs to,
with the kernel resolving links inside that root (openat2, RESOLVE_IN_ROOT), and the walk goes on by descriptors, never
by names. Symlinks are sent as symlinks; devices, sockets and pipes are left out.
"""

import asyncio
import ctypes
import os
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from corral.base.errors import CorralError

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_CHUNK = 256 * 1024
_BLOCK = tarfile.BLOCKSIZE
_DEEPEST = 200
"""Directories within directories: each holds a descriptor open, and the agent has few to lose to one reader."""
_libc = ctypes.CDLL(None, use_errno=True)


class FileError(CorralError):
    """A path that cannot be read; `missing` says that it does not exist."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file, directory or link to send; `descriptor` is open for what has content."""

    name: str
    info: os.stat_result
    descriptor: int = -1
    link: str = ""


def open_in_root(root: str, path: str) -> int:
    """A descriptor (O_PATH) of `path` as a process whose root is `root` would find it.

    Raises:
        FileError: it cannot be found or opened.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        name = os.fsencode(path.lstrip("/") or ".")
        descriptor = _libc.syscall(_SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor < 0:
            code = ctypes.get_errno()
            raise FileError(
                f"cannot open {path}: {os.strerror(code)}", missing=isinstance(OSError(code, ""), FileNotFoundError)
            )
        return int(descriptor)
    finally:
        os.close(directory)


async def tar_stream(root: str, path: str) -> AsyncIterator[bytes]:
    """A tar archive of `path` below `root`; its first member is named after the path's last part.

    Raises:
        FileError: the path cannot be found; raised before the first chunk.
    """
    top = open_in_root(root, path)
    name = PurePosixPath(path).name or "."
    chunks = _tar(top, name)
    while True:
        # The file system is touched in threads only: a slow disk must not stop the agent.
        chunk = await asyncio.to_thread(next, chunks, b"")
        if not chunk:
            return
        yield chunk


def _tar(top: int, name: str) -> Iterator[bytes]:
    buffer = bytearray()
    for piece in _pieces(top, name):
        buffer += piece
        if len(buffer) >= _CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + bytes(2 * _BLOCK)


def _pieces(top: int, name: str) -> Iterator[bytes]:
    for entry in _walk(top, name):
        header = _header(entry)
        if header is None:
            continue
        yield header
        if stat.S_ISREG(entry.info.st_mode):
            yield from _content(entry)


def _walk(descriptor: int, name: str, depth: int = 0) -> Iterator[_Entry]:
    """Everything at and below an O_PATH descriptor, which is closed at the end."""
    try:
        if depth > _DEEPEST:
            raise FileError(f"cannot read {name[:80]}...: it lies more than {_DEEPEST} directories deep")
        info = os.fstat(descriptor)
        if stat.S_ISREG(info.st_mode):
            opened = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
            try:
                yield _Entry(name, info, opened)
            finally:
                os.close(opened)
        elif stat.S_ISLNK(info.st_mode):
            yield _Entry(name, info, link=os.readlink("", dir_fd=descriptor))
        elif stat.S_ISDIR(info.st_mode):
            yield _Entry(name, info)
            listing = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_DIRECTORY)
            try:
                children = sorted(os.listdir(listing))
            finally:
                os.close(listing)
            for child in children:
                try:
                    following = os.open(child, os.O_PATH | os.O_NOFOLLOW, dir_fd=descriptor)
                except FileNotFoundError:
                    continue
                yield from _walk(following, f"{name}/{child}", depth + 1)
    finally:
        os.close(descriptor)


def _header(entry: _Entry) -> bytes | None:
    info = tarfile.TarInfo(entry.name)
    info.mode = stat.S_IMODE(entry.info.st_mode)
    info.uid, info.gid = entry.info.st_uid, entry.info.st_gid
    info.mtime = int(entry.info.st_mtime)
    if stat.S_ISDIR(entry.info.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(entry.info.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, entry.link
    elif stat.S_ISREG(entry.info.st_mode):
        info.size = entry.info.st_size
    else:
        return None
    return info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _content(entry: _Entry) -> Iterator[bytes]:
    """Exactly as many bytes as the header promised, whatever happens to the file meanwhile."""
    left = entry.info.st_size
    while left > 0:
        data = os.read(entry.descriptor, min(_CHUNK, left))
        if not data:
            # Not all at once: a file may claim any size, and be cut short while it is read.
            data = bytes(min(_CHUNK, left))
        left -= len(data)
        yield data
    yield bytes(-entry.info.st_size % _BLOCK)

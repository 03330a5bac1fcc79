"""The few system calls that Python's standard library lacks: mount, umount2, unshare, sethostname, inotify, openat2.

Namespaces belong to threads, so what has to happen in another namespace happens in a thread of its own that ends
afterwards (`in_new_thread`): no process is spawned for it.
"""

import asyncio
import ctypes
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
CLONE_FS = 0x00000200
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_CLOEXEC = 0o2000000
IN_NONBLOCK = 0o4000
RESOLVE_IN_ROOT = 0x10
RESOLVE_NO_MAGICLINKS = 0x02
_SYS_OPENAT2 = 437

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, *paths: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *paths[:1])
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2).

    Raises:
        OSError: as the kernel says.
    """
    code = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    _check(code, target)


def unmount(target: str, *, lazily: bool = True) -> bool:
    """umount2(2); False when nothing was mounted there."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH if lazily else 0) == 0:
        return True
    number = ctypes.get_errno()
    if os.strerror(number) in (os.strerror(2), os.strerror(22)):  # ENOENT, EINVAL: not a mount point
        return False
    raise OSError(number, os.strerror(number), target)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _check(_libc.unshare(flags))


def enter_network(path: Path) -> None:
    """setns(2): the calling thread, and what it starts from now on, go into the network namespace at `path`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(descriptor, CLONE_NEWNET), str(path))
    finally:
        os.close(descriptor)


def set_hostname(name: str) -> None:
    """sethostname(2) in the calling thread's UTS namespace."""
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)))


def inotify(directory: str, mask: int) -> int:
    """A non-blocking inotify descriptor that watches `directory`."""
    descriptor = _check(_libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
    try:
        _check(_libc.inotify_add_watch(descriptor, os.fsencode(directory), mask), directory)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def inotify_names(data: bytes) -> list[str]:
    """The file names in a read from an inotify descriptor; an empty name stands for a queue that overflowed."""
    names, offset = [], 0
    while offset < len(data):
        _, _, _, length = struct.unpack_from("iIII", data, offset)
        names.append(data[offset + 16 : offset + 16 + length].rstrip(b"\0").decode(errors="surrogateescape"))
        offset += 16 + length
    return names


def open_in_root(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """Open `path` as a process whose root is `root` would, so that no symlink leads out (openat2, Linux 5.6).

    Raises:
        OSError: as the kernel says.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        relative = path.lstrip("/").encode() or b"."
        return _check(_libc.syscall(_SYS_OPENAT2, directory, relative, how, len(how)), path)
    finally:
        os.close(directory)


async def in_new_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread that ends with it, so that the thread may change its namespaces or directory."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    threading.Thread(target=run, name="corral-namespace", daemon=True).start()
    return await future

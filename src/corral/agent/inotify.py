"""Waiting for a directory to change, without polling: inotify through libc and the event loop."""

import asyncio
import ctypes
import os
from pathlib import Path
from types import TracebackType

_libc = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER = 64 * 1024


class DirectoryWatch:
    """`changed` is set whenever a file in the directory is written to, made or moved in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self.changed = asyncio.Event()

    def __enter__(self) -> "DirectoryWatch":
        self._descriptor = _libc.inotify_init1(_FLAGS)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {self._directory}: inotify_init1 failed")
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        if _libc.inotify_add_watch(self._descriptor, os.fsencode(self._directory), mask) < 0:
            code = ctypes.get_errno()
            os.close(self._descriptor)
            raise OSError(code, os.strerror(code), str(self._directory))
        asyncio.get_running_loop().add_reader(self._descriptor, self._drain)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _drain(self) -> None:
        # What happened does not matter, only that something did.
        os.read(self._descriptor, _BUFFER)
        self.changed.set()

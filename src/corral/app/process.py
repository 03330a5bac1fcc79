"""One server process per data directory: the lock that says so, its pid file, and how it is found and ended."""

import fcntl
import os
import select
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from corral.app.config import CellConfig
from corral.base.errors import CorralError

_FLOCK = "hhqqi0q"
"""`struct flock` of fcntl(2): type, whence, start, length (0: to the end), pid (0 for locks of an open file)."""


class AlreadyRuns(CorralError):
    """Another process serves this data directory."""

    def __init__(self, config: CellConfig, pid: int) -> None:
        # Another one that has just taken the lock has not written its pid yet.
        super().__init__(f"the cell in {config.data_dir} already runs{f' (pid {pid})' if pid else ''}")
        self.pid = pid


@contextmanager
def sole_owner(config: CellConfig) -> Iterator[None]:
    """Hold the data directory for this process, with its pid file.

    The lock, not the pid file, is the truth: it goes with the process, however that ends.

    Raises:
        AlreadyRuns: another process holds it.
        CorralError: the lock or the pid file cannot be made.
    """
    try:
        descriptor = os.open(config.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(error) from error
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except BlockingIOError:
            raise AlreadyRuns(config, recorded_pid(config)) from None
        try:
            config.pid_file.write_text(f"{os.getpid()}\n")
        except OSError as error:
            raise _unusable(error) from error
        try:
            yield
        finally:
            config.pid_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _unusable(error: OSError) -> CorralError:
    return CorralError(
        f"cannot write {error.filename}: {error.strerror}",
        "free space on its disk, or give the directory back its rights",
    )


def recorded_pid(config: CellConfig) -> int:
    """What the pid file says; 0 if there is none."""
    try:
        return int(config.pid_file.read_text())
    except (OSError, ValueError):
        return 0


def running_pid(config: CellConfig) -> int:
    """The pid of the process that holds the data directory; 0 if none does.

    Raises:
        CorralError: the lock cannot be looked at.
    """
    try:
        descriptor = os.open(config.run_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unusable(error) from error
    try:
        # Asking takes nothing: a lock taken to find out would turn away whoever starts at that moment.
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    held = struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK
    return recorded_pid(config) if held else 0


def end(pid: int, seconds: float) -> bool:
    """Ask a process to end and wait for it; False if it is still there after `seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        return bool(select.select([descriptor], [], [], seconds)[0])
    except ProcessLookupError:
        return True
    finally:
        os.close(descriptor)

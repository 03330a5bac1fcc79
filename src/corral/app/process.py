"""One server process per data directory: the lock that says so, its pid file, and how it is found and ended."""

import fcntl
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from corral.app.config import CellConfig
from corral.base.errors import CorralError


class AlreadyRuns(CorralError):
    """Another process serves this data directory."""

    def __init__(self, config: CellConfig, pid: int) -> None:
        super().__init__(f"the cell in {config.data_dir} already runs (pid {pid})")
        self.pid = pid


@contextmanager
def sole_owner(config: CellConfig) -> Iterator[None]:
    """Hold the data directory for this process, with its pid file.

    The lock, not the pid file, is the truth: it goes with the process, however that ends.

    Raises:
        AlreadyRuns: another process holds it.
    """
    descriptor = os.open(config.run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRuns(config, recorded_pid(config)) from None
        config.pid_file.write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            config.pid_file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def recorded_pid(config: CellConfig) -> int:
    """What the pid file says; 0 if there is none."""
    try:
        return int(config.pid_file.read_text())
    except (OSError, ValueError):
        return 0


def running_pid(config: CellConfig) -> int:
    """The pid of the process that holds the data directory; 0 if none does."""
    try:
        descriptor = os.open(config.run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return recorded_pid(config)
    finally:
        os.close(descriptor)
    return 0


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

"""The real parts, and how each is broken and mended: machines in network namespaces; two servers and three members of
etcd, or one server and SQLite.

Every process is of its own and is hit from outside, as the world hits it. Machines keep their data on small file
systems, so that a disk can be full without anybody else noticing.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from corral.app.clock import FILE as CLOCK_FILE

from ...integration.store.etcd_cluster import EtcdCluster
from ..e2e.conftest import Cell, leftovers
from .plan import MEMBER_SORTS, SERVER_SORTS, Fault, Inventory, Sort

_DISK_MEGABYTES: Final = 96
_MEMBER_MEGABYTES: Final = 640
"""etcd takes room for logs of 64 MB before it needs it."""
_SHORT_LOG: Final = ("--snapshot-count", "2000", "--max-wals", "2")
"""Otherwise it keeps all logs of its first 100,000 writes, which would fill the disk by themselves."""
_RUN_MEGABYTES: Final = 8
_DIRECTIONS: Final = {Sort.PARTITION: "both", Sort.PARTITION_IN: "in", Sort.PARTITION_OUT: "out"}


class Server(Cell):
    """A server that may be told a wrong time."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "CORRAL_CLOCK_OFFSETS": "1"}


@dataclass
class World:
    """All of it, below one directory with a short path."""

    directory: Path
    machines: int
    replicated: bool = True
    """Two servers on an etcd of three; otherwise one on SQLite."""
    etcd: EtcdCluster = field(init=False)
    servers: dict[str, Server] = field(init=False)
    _disks: list[Path] = field(default_factory=list)
    _busy: set[str] = field(default_factory=set)
    _full: set[int] = field(default_factory=set)
    """Members of etcd that have no room."""
    _tending: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.etcd = EtcdCluster(self.directory / "etcd", 3 if self.replicated else 0, _SHORT_LOG)
        names = ("s1", "s2") if self.replicated else ("s1",)
        self.servers = {name: Server(self.directory / name) for name in names}

    @property
    def first(self) -> Server:
        return self.servers["s1"]

    @property
    def witness(self) -> Path:
        return self.directory / "witness"

    @property
    def store(self) -> str:
        """The URL of etcd."""
        return "etcd://" + ",".join(f"127.0.0.1:{port}" for port in self.etcd.clients)

    @property
    def inventory(self) -> Inventory:
        names = [f"m{number}" for number in range(1, self.machines + 1)]
        members = [str(number) for number in range(self.etcd.size)]
        return Inventory(names, list(self.servers), members, least_servers=len(self.servers) - 1)

    def data_dir(self, machine: str) -> Path:
        """Of a machine's agent."""
        return self.first.data_dir / "machines" / machine

    def member_dir(self, number: int) -> Path:
        """Where a member of etcd keeps its data."""
        return self.etcd.directory / f"m{number}"

    def start(self) -> None:
        """Start everything and return when it answers."""
        for number in range(self.etcd.size):
            self._mount(self.member_dir(number), f"etcd{number}", _MEMBER_MEGABYTES)
        for name, server in self.servers.items():
            self._mount_server(name, server.data_dir)
        self.witness.mkdir()
        (self.witness / "journal").touch()
        self.witness.chmod(0o777)
        self.etcd.start()
        for name in self.inventory.machines:
            self._mount(self.data_dir(name), name, _DISK_MEGABYTES)
            self._log_elsewhere(self.data_dir(name), name)
        options = ("--store", self.store) if self.replicated else ()
        self.first.up(*options, "--machines", str(self.machines))
        if self.replicated:
            self.servers["s2"].up("--join-server", str(self.first.kubeconfig), "--no-agent")

    def _mount(self, disk: Path, name: str, megabytes: int) -> None:
        image = self.directory / f"{name}.img"
        disk.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
        self._disks.append(disk)

    def _mount_server(self, name: str, disk: Path) -> None:
        """What is to break the fleet writes to the server's `run`, which is in memory as on other machines."""
        self._mount(disk, name, _DISK_MEGABYTES)
        self._log_elsewhere(disk, name)
        run = disk / "run"
        run.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_RUN_MEGABYTES}m", "corral-test", str(run)], check=True)
        self._disks.append(run)

    def _log_elsewhere(self, disk: Path, name: str) -> None:
        """What somebody has to say while their disk is full is worth reading."""
        logs = self.directory / "logs" / name
        logs.mkdir(parents=True)
        (disk / "log").symlink_to(logs)

    def stop(self) -> dict[str, set[str]]:
        """End everything; what it left behind on the machine."""
        self._thaw()
        for server in reversed(self.servers.values()):
            server.corral("down", "-t", "1", check=False, timeout=120)
        with self._tending:
            self.etcd.stop()
        self._unmount()
        left = {name: leftovers(server) for name, server in self.servers.items()}
        left |= {name: leftovers(Cell(self.data_dir(name))) for name in self.inventory.machines}
        found = {f"{name}: {kind}": what for name, kinds in left.items() for kind, what in kinds.items()}
        return {**found, **({"busy disks": self._busy} if self._busy else {})}

    def _thaw(self) -> None:
        """What a run that was broken off left frozen could not be told to end."""
        for target in (*self.servers, *self.inventory.machines):
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.pid(target), signal.SIGCONT)

    def _unmount(self) -> None:
        """A disk that something still uses is told among what is left, and let go."""
        for disk in reversed(self._disks):
            if subprocess.run(["umount", str(disk)], check=False, capture_output=True).returncode:
                self._busy |= {str(disk)}
                subprocess.run(["umount", "--lazy", str(disk)], check=False)

    def pid(self, target: str) -> int:
        """Of a server, or of a machine's agent."""
        directory = self.servers[target].data_dir if target in self.servers else self.data_dir(target)
        return int((directory / "run" / "corral.pid").read_text())

    def begin(self, fault: Fault) -> Callable[[], None]:
        """Break it; what is returned mends it. Both block."""
        if fault.sort in MEMBER_SORTS:
            return self._break_member(fault.sort, int(fault.target))
        if fault.sort in SERVER_SORTS:
            return self._break_server(fault)
        return self._break_machine(fault)

    def _break_machine(self, fault: Fault) -> Callable[[], None]:
        sort, target = fault.sort, fault.target
        if sort in (Sort.KILL_MACHINE, Sort.FREEZE_MACHINE):
            self.first.corral("machine", "kill" if sort is Sort.KILL_MACHINE else "freeze", target)
        elif sort in _DIRECTIONS:
            self.first.corral("machine", "partition", target, "--direction", _DIRECTIONS[sort])
        elif sort is Sort.FILL_DISK:
            return fill(self.data_dir(target))
        elif sort is Sort.SHIFT_AGENT_CLOCK:
            return shift(self.data_dir(target) / CLOCK_FILE, fault.shift)
        elif sort is Sort.FREEZE_AGENT:
            return freeze(self.pid(target))
        else:
            kill(self.pid(target))
        return lambda: self._heal(target, "thaw" if sort is Sort.FREEZE_MACHINE else "heal")

    def _break_server(self, fault: Fault) -> Callable[[], None]:
        sort, target = fault.sort, fault.target
        if sort is Sort.FILL_SERVER_DISK:
            return fill(self.servers[target].data_dir)
        if sort is Sort.SHIFT_SERVER_CLOCK:
            return shift(self.servers[target].data_dir / CLOCK_FILE, fault.shift)
        if sort is Sort.FREEZE_SERVER:
            return freeze(self.pid(target))
        kill(self.pid(target))
        return lambda: self._again(target)

    def _break_member(self, sort: Sort, number: int) -> Callable[[], None]:
        if sort is Sort.FREEZE_MEMBER:
            return freeze(self.etcd.processes[number].pid)
        if sort is Sort.KILL_MEMBER:
            self.etcd.kill(number)
            return lambda: self.etcd.start([number])
        self._full.add(number)
        empty = fill(self.member_dir(number))

        def again() -> None:
            empty()
            self._full.discard(number)
            self.tend()

        return again

    def tend(self) -> list[int]:
        """Start members of etcd that have ended by themselves, as whoever runs them would; which ones.

        One whose disk was full may end when there is room again.
        """
        with self._tending:
            ended = [number for number, process in list(self.etcd.processes.items()) if process.poll() is not None]
            ended = [number for number in ended if number not in self._full]
            self.etcd.start(ended)
            return ended

    def _heal(self, machine: str, how: str) -> None:
        self.first.corral("machine", how, machine)

    def _again(self, server: str) -> None:
        self.servers[server].up(*(() if server == "s1" else ("--no-agent",)))


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([descriptor], [], [], 10)[0], f"process {pid} does not die"
    finally:
        os.close(descriptor)


def freeze(pid: int) -> Callable[[], None]:
    """SIGSTOP; then SIGCONT, if it is still there."""
    os.kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return thaw


def shift(file: Path, seconds: float) -> Callable[[], None]:
    """Make the clock that looks at `file` wrong; then right."""
    file.write_text(str(seconds))
    return file.unlink


def fill(disk: Path) -> Callable[[], None]:
    """Take the last byte of the file system at `disk`; then give it all back."""
    ballast, state = disk / "ballast", os.statvfs(disk)
    with ballast.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize)
        file.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError):
            while file.write(bytes(1024)):
                pass
    return ballast.unlink

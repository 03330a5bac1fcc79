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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from corral.app.clock import FILE as CLOCK_FILE

from ...integration.store.etcd_cluster import EtcdCluster
from ..e2e.conftest import Cell, leftovers
from .plan import Fault, Inventory, Sort

_DISK_MEGABYTES: Final = 96
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

    def __post_init__(self) -> None:
        self.etcd = EtcdCluster(self.directory / "etcd", 3 if self.replicated else 0)
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

    def start(self) -> None:
        """Start everything and return when it answers."""
        (self.directory / "etcd").mkdir()
        self.witness.mkdir()
        (self.witness / "journal").touch()
        self.witness.chmod(0o777)
        self.etcd.start()
        for name in self.inventory.machines:
            self._mount(name)
        options = ("--store", self.store) if self.replicated else ()
        self.first.up(*options, "--machines", str(self.machines))
        if self.replicated:
            self.servers["s2"].up("--join-server", str(self.first.kubeconfig), "--no-agent")

    def _mount(self, machine: str) -> None:
        disk, image = self.data_dir(machine), self.directory / f"{machine}.img"
        disk.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(_DISK_MEGABYTES << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
        self._disks.append(disk)
        # What a machine has to say while its disk is full is worth reading.
        logs = self.directory / "logs" / machine
        logs.mkdir(parents=True)
        (disk / "log").symlink_to(logs)

    def stop(self) -> dict[str, set[str]]:
        """End everything; what it left behind on the machine."""
        self._thaw()
        for server in reversed(self.servers.values()):
            server.corral("down", "-t", "1", check=False, timeout=120)
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
        for disk in self._disks:
            if subprocess.run(["umount", str(disk)], check=False, capture_output=True).returncode:
                self._busy |= {str(disk)}
                subprocess.run(["umount", "--lazy", str(disk)], check=False)

    def pid(self, target: str) -> int:
        """Of a server, or of a machine's agent."""
        directory = self.servers[target].data_dir if target in self.servers else self.data_dir(target)
        return int((directory / "run" / "corral.pid").read_text())

    def begin(self, fault: Fault) -> Callable[[], None]:
        """Break it; what is returned mends it. Both block."""
        sort, target = fault.sort, fault.target
        if sort is Sort.KILL_MACHINE:
            return self._played("kill", target)
        if sort in _DIRECTIONS:
            return self._played("partition", target, "--direction", _DIRECTIONS[sort])
        if sort is Sort.FILL_DISK:
            return fill(self.data_dir(target))
        if sort in (Sort.SHIFT_AGENT_CLOCK, Sort.SHIFT_SERVER_CLOCK):
            directory = self.servers[target].data_dir if target in self.servers else self.data_dir(target)
            return shift(directory / CLOCK_FILE, fault.shift)
        if sort in (Sort.FREEZE_AGENT, Sort.FREEZE_SERVER):
            return freeze(self.pid(target))
        if sort is Sort.FREEZE_MEMBER:
            return freeze(self.etcd.processes[int(target)].pid)
        if sort is Sort.KILL_MEMBER:
            self.etcd.kill(int(target))
            return lambda: self.etcd.start([int(target)])
        kill(self.pid(target))
        if sort is Sort.KILL_SERVER:
            return lambda: self._again(target)
        return self._healing(target)

    def _played(self, *arguments: str) -> Callable[[], None]:
        self.first.corral("machine", *arguments)
        return self._healing(arguments[1])

    def _healing(self, machine: str) -> Callable[[], None]:
        def heal() -> None:
            self.first.corral("machine", "heal", machine)

        return heal

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

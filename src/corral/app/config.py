"""What a cell is told by whoever starts it. Only this room reads configuration."""

import errno
import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from corral.base.errors import CorralError

DEFAULT_DATA_DIR = Path("/var/lib/corral")
DEFAULT_PORT = 6443
MEMBER_FILE = "member.json"
"""What a machine that has joined a cell has in its data directory."""
Engine: TypeAlias = Literal["auto", "crun", "runc"]
LAYOUT_VERSION = 1
"""Of the data directory; a cell refuses a directory of a newer one."""
_LEAST_BYTES = 1 << 20
"""What a cell writes at its start (its first objects, certificates, logs), rounded up."""
_REMEDIES = {errno.ENOSPC: "free some space on its disk (at least 1 MiB), or choose another with --data-dir"}


@dataclass(frozen=True, slots=True)
class CellConfig:
    """One cell on this machine."""

    data_dir: Path = DEFAULT_DATA_DIR
    host: str = "0.0.0.0"
    """The address that the API listens on: all, because pods reach it through their bridge."""
    port: int = DEFAULT_PORT
    """0 is any free port."""
    agent: bool = True
    node_name: str = ""
    engine: Engine = "auto"
    store: str = ""
    """The store's URL; the data directory's own SQLite if empty."""
    scheduler_profile: str = "spreading"
    """How machines are chosen for pods that name no other scheduler than the default one."""

    health_profile: str = "default"
    """How soon a silent machine is given up: a name of `corral.kinds.health.PROFILES`."""

    addresses: tuple[str, ...] = ()
    """By which clients reach the API, besides the machine's own."""

    @property
    def boot(self) -> str:
        """Tells this boot of the machine from others, if the kernel's own does not (a machine of `--machines`)."""
        try:
            return (self.run_dir / "boot_id").read_text().strip()
        except OSError:
            return ""

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def pid_file(self) -> Path:
        return self.run_dir / "corral.pid"

    @property
    def agent_dir(self) -> Path:
        return self.data_dir / "agent"

    def url(self, port: int) -> str:
        """Where clients on this machine reach the API: on loopback, unless it listens on one other address only."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "localhost") else self.host
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    @property
    def name(self) -> str:
        """Tells this cell's bridge, cgroups and mounts from those of other cells on the machine."""
        return hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:8]

    @property
    def machine(self) -> str:
        """The name of this machine's Node."""
        return self.node_name or socket.gethostname().lower().replace("_", "-")


def machine_address() -> str:
    """The address by which others reach this machine: that of the default route, or loopback without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing; it only asks the kernel for a route (RFC 5737 address).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def prepare_data_dir(config: CellConfig) -> None:
    """Make the data directory, or check that it is one of ours and not of a newer Corral.

    Raises:
        CorralError: it cannot be used.
    """
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        config.data_dir.chmod(0o700)
        for directory in (config.run_dir, config.data_dir / "log"):
            directory.mkdir(mode=0o700, exist_ok=True)
        marker = config.data_dir / "version"
        if not marker.exists():
            _write_atomically(marker, f"{LAYOUT_VERSION}\n")
        found = marker.read_bytes().decode(errors="replace").strip()
        _check_space(config.run_dir)
    except OSError as error:
        raise CorralError(
            f"cannot use {config.data_dir} as data directory: {error.strerror}: {error.filename or config.data_dir}",
            _REMEDIES.get(error.errno or 0, "run as root, or choose another with --data-dir"),
        ) from error
    if not (found.isascii() and found.isdigit()):
        raise CorralError(
            f"cannot use {config.data_dir}: its file `version` says {found[:40]!r}, which is no version",
            f"choose another --data-dir; or, if it is one of Corral's, write {LAYOUT_VERSION} into {marker}",
        )
    if int(found) > LAYOUT_VERSION:
        raise CorralError(
            f"cannot use {config.data_dir}: its layout is version {found}, this Corral knows {LAYOUT_VERSION}",
            "upgrade Corral, or choose another --data-dir",
        )


def _check_space(directory: Path) -> None:
    """Take and give back what a start needs, so that a full disk is told by name and before anything has begun."""
    with tempfile.TemporaryFile(dir=directory) as probe:
        os.posix_fallocate(probe.fileno(), 0, _LEAST_BYTES)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

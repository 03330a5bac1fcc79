"""What the runtime remembers: one directory and one small JSON file for each sandbox and container.

    DIRECTORY/
      boot                      the boot id these records belong to
      sandboxes/ID/sandbox.json, ns/{net,ipc,uts}, shm/
      containers/ID/container.json, config.json, root/ (overlay), upper/, work/, pid, attach, ctl
      oci/                      the OCI runtime's own state
      images/                   see `corral.agent.runtime.images`

Exit codes are in memory (`volatile.py`), where conmon writes them: a full disk must not lose one, and a container does
not outlive the boot anyway.

A record is replaced atomically; a directory without a readable record is a half-made thing, and is cleared.
"""

import contextlib
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from corral.agent.runtime import trees, volatile
from corral.agent.runtime.api import ContainerSpec, SandboxSpec

Record = TypeVar("Record")


@dataclass(slots=True)
class SandboxRecord:
    """`sandbox.json`."""

    spec: SandboxSpec
    created: datetime
    addresses: list[str] = field(default_factory=list)
    complete: bool = False


@dataclass(slots=True)
class ContainerRecord:
    """`container.json`. `finished` and `exit_code` are filled in once the end has been seen."""

    spec: ContainerSpec
    image_id: str
    layers: list[str]
    stop_signal: int
    cgroup: str
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    pid: int = 0
    message: str = ""
    hidden: bool = False
    """True for the process that holds a shared PID namespace."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is, below one directory."""

    directory: Path

    @property
    def sandboxes(self) -> Path:
        return self.directory / "sandboxes"

    @property
    def containers(self) -> Path:
        return self.directory / "containers"

    @property
    def exits(self) -> Path:
        return volatile.exits(self.directory)

    @property
    def oci(self) -> Path:
        return self.directory / "oci"

    @property
    def images(self) -> Path:
        return self.directory / "images"

    @property
    def boot(self) -> Path:
        return self.directory / "boot"

    def sandbox(self, sandbox_id: str) -> Path:
        return self.sandboxes / sandbox_id

    def container(self, container_id: str) -> Path:
        return self.containers / container_id

    def leave(self) -> None:
        """Remove what lies outside the directory, unless a container may still need it. `make` makes it again."""
        if not any(self.containers.iterdir()):
            with contextlib.suppress(OSError):
                self.exits.rmdir()
            volatile.leave(self.directory)

    def make(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        volatile.claim(self.directory)
        volatile.sweep()
        for path in (self.sandboxes, self.containers, self.exits, self.oci, self.images):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Nobody else on the machine gets in: a container may leave set-user-id programs in its root.
        self.directory.chmod(0o700)


def save(path: Path, record: SandboxRecord | ContainerRecord) -> None:
    """Write `record` so that a reader sees the old or the new one, never half of it."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(record))
    fresh.replace(path)


def load(path: Path, kind: type[Record]) -> Record | None:
    """The record at `path`; None when it is missing or half-made."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def boot_id() -> str:
    """Identifies this boot of the machine: namespaces and processes do not outlive it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def remove_tree(path: Path) -> None:
    """Remove a directory tree; nothing there is fine."""
    trees.remove(path)

"""The image `host`: a read-only view of this machine's /usr, with an /etc that holds nothing secret.

So a program runs without any registry, with the compilers and interpreters the machine has. What containers see: /usr
(bound, read-only), /bin and its like as on the machine, a generated /etc (root and nobody; certificates, alternatives,
the linker's cache, time zone), and empty /root, /home, /tmp, /var/tmp, /run, /work. Nothing else of the machine.

The tree's directory carries a digest of what it was made from: when the machine changes, a new tree is made, and
containers keep the one they were started on.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from corral.agent.runtime.api import Image, Mount

ID = "host"
CONFIG = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "WorkingDir": "/"}

_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_EMPTY = {"root": 0o700, "home": 0o755, "run": 0o755, "work": 0o755, "opt": 0o755, "mnt": 0o755, "var": 0o755}
_MOUNT_POINTS = ("usr", "proc", "sys", "dev")
_OPEN = ("tmp", "var/tmp")

_COPIED = (
    "alternatives",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "debian_version",
    "protocols",
    "services",
    "timezone",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "perl",
    "R",
)
_PRIVATE_SUFFIXES = (".key",)

_GENERATED = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "host.conf": "multi on\n",
    "resolv.conf": "",
    "hostname": "",
    "shells": "/bin/sh\n/bin/bash\n",
    "profile": "",
}


def mounts(mountinfo: str) -> tuple[Mount, ...]:
    """/usr, and what is mounted below it (in a /proc/PID/mountinfo), each as a mount of its own."""
    points = dict.fromkeys(line.split()[4] for line in mountinfo.splitlines())
    below = [point for point in points if point.startswith("/usr/") and "\\" not in point]
    return tuple(Mount(path, path, read_only=True) for path in ("/usr", *below))


class HostImage:
    """Makes and finds the trees below `directory`. `machine` is the root of the machine."""

    def __init__(self, directory: Path, machine: Path = Path("/")) -> None:
        self._directory = directory
        self._machine = machine
        self._tree: Path | None = None

    @property
    def image(self) -> Image:
        return Image(id=ID, references=(ID,), size=0, config=CONFIG)

    def mounts(self) -> tuple[Mount, ...]:
        """What is bound into each container, as it is now."""
        return mounts(Path("/proc/self/mountinfo").read_text())

    def layer(self) -> str:
        """The directory that containers stand on; made now if the machine has changed."""
        if self._tree is None:
            self._tree = self._make()
        return str(self._tree)

    def refresh(self) -> None:
        """Look at the machine again before the next container."""
        self._tree = None

    def remove_unused(self, used: set[str]) -> None:
        """Remove trees of an older machine that no container stands on."""
        for tree in self._directory.glob("*"):
            if str(tree) not in used and tree != self._tree:
                shutil.rmtree(tree)

    def _make(self) -> Path:
        tree = self._directory / self._digest()
        if tree.exists():
            return tree
        fresh = tree.with_name(f".{tree.name}.new")
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(parents=True, mode=0o755)
        self._fill(fresh)
        fresh.rename(tree)
        return tree

    def _fill(self, tree: Path) -> None:
        for name, mode in _EMPTY.items():
            (tree / name).mkdir(mode=mode)
        for name in _MOUNT_POINTS:
            (tree / name).mkdir(mode=0o755)
        for name in _OPEN:
            (tree / name).mkdir()
            (tree / name).chmod(0o1777)
        for name in _LINKS:
            self._link(name, tree)
        (tree / "var" / "run").symlink_to("/run")
        etc = tree / "etc"
        etc.mkdir(mode=0o755)
        for name in _COPIED:
            _copy(self._machine / "etc" / name, etc / name)
        for name, text in _GENERATED.items():
            (etc / name).write_text(text)

    def _link(self, name: str, tree: Path) -> None:
        """/bin and its like: a link as on the machine; on a machine without merged /usr there is only what /usr has."""
        source = self._machine / name
        if source.is_symlink():
            (tree / name).symlink_to(os.readlink(source))
        elif (self._machine / "usr" / name).exists():
            (tree / name).symlink_to(f"usr/{name}")

    def _digest(self) -> str:
        digest = hashlib.sha256(repr((_GENERATED, _COPIED, _EMPTY)).encode())
        for name in (*_LINKS, *(f"etc/{copied}" for copied in _COPIED)):
            for path in _below(self._machine / name):
                status = path.lstat()
                digest.update(f"{path} {status.st_mtime_ns} {status.st_size}\n".encode())
        return digest.hexdigest()[:16]


def _below(path: Path) -> Iterator[Path]:
    """The path itself, and what is in it when it is a real directory, in a steady order."""
    if not os.path.lexists(path):
        return
    yield path
    if path.is_dir() and not path.is_symlink():
        for child in sorted(path.iterdir()):
            yield from _below(child)


def _copy(source: Path, target: Path) -> None:
    """Copy links as links and plain, world-readable files; whatever others may not read stays out."""
    if not os.path.lexists(source) or source.name.endswith(_PRIVATE_SUFFIXES):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        for child in source.iterdir():
            _copy(child, target / child.name)
    elif source.is_file() and source.stat().st_mode & 0o004:
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)

"""A pod's shared namespaces without a process that holds them.

A thread makes network, IPC and UTS namespaces, sets them up from inside (hostname, loopback, sysctls), binds them to
files below the sandbox's directory, and ends. The files hold the namespaces; containers join them by path.
"""

import errno
import fcntl
import shutil
import socket
import struct
import threading
from pathlib import Path

from corral.agent.runtime import syscalls, trees
from corral.agent.runtime.api import SandboxSpec

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_SHM_SIZE = "65536k"

_FLAGS = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}


def own_namespaces(spec: SandboxSpec) -> tuple[str, ...]:
    """Which namespaces the sandbox has of its own; the others are the machine's."""
    names = [] if spec.host_network else ["net", "uts"]
    return (*names, *([] if spec.host_ipc else ["ipc"]))


def namespace_paths(spec: SandboxSpec, directory: Path) -> dict[str, str]:
    """Where the sandbox's own namespaces are pinned."""
    return {name: str(directory / "ns" / name) for name in own_namespaces(spec)}


def shm(spec: SandboxSpec, directory: Path) -> str:
    """What containers get as /dev/shm: shared in the pod, as its IPC namespace is."""
    return "/dev/shm" if spec.host_ipc else str(directory / "shm")


def present(spec: SandboxSpec, directory: Path) -> bool:
    """Whether the namespaces are still there (they are not after a reboot)."""
    return all(pinned(Path(path)) for path in namespace_paths(spec, directory).values())


def pinned(path: Path) -> bool:
    """Whether a namespace is bound to the file `path`."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


async def create(spec: SandboxSpec, directory: Path) -> None:
    """Make and pin the namespaces of `spec` below `directory`."""
    await syscalls.in_new_thread(lambda: _create(spec, directory))


def _create(spec: SandboxSpec, directory: Path) -> None:
    """Runs in a thread of its own."""
    (directory / "ns").mkdir(parents=True, exist_ok=True)
    if not spec.host_ipc:
        shm_directory = directory / "shm"
        shm_directory.mkdir(exist_ok=True)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("shm", str(shm_directory), "tmpfs", flags, f"mode=1777,size={_SHM_SIZE}")
    paths = namespace_paths(spec, directory)
    if not paths:
        return
    syscalls.unshare(sum(_FLAGS[name] for name in paths))
    if "net" in paths:
        syscalls.set_hostname(spec.hostname)
        _loopback_up()
    _set_sysctls(spec)
    thread = threading.get_native_id()
    for name, path in paths.items():
        Path(path).touch()
        syscalls.mount(f"/proc/self/task/{thread}/ns/{name}", path, flags=syscalls.MS_BIND)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _set_sysctls(spec: SandboxSpec) -> None:
    """Write the pod's sysctls as this thread, whose namespaces they then belong to."""
    defaults = {} if spec.host_network else {"net.ipv4.ip_unprivileged_port_start": "0"}
    for name, value in {**defaults, **spec.sysctls}.items():
        if not _namespaced(name, spec):
            raise OSError(errno.EPERM, f"cannot set sysctl {name}: it would change the machine, not the pod")
        try:
            Path("/proc/sys", name.replace(".", "/")).write_text(value)
        except OSError as error:
            raise OSError(error.errno, f"cannot set sysctl {name} to {value!r}: {error.strerror}") from error


def _namespaced(name: str, spec: SandboxSpec) -> bool:
    """Whether the sysctl belongs to a namespace that the pod has of its own (Kubernetes' list)."""
    if "/" in name or ".." in name:
        return False
    if name.startswith("net."):
        return not spec.host_network
    return not spec.host_ipc and name.startswith(("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."))


def destroy(directory: Path) -> None:
    """Let go of the namespaces and remove the directory. Safe to repeat."""
    for path in [*(directory / "ns").glob("*"), directory / "shm"]:
        while syscalls.unmount(str(path)):
            continue
    try:
        with trees.unless_lost(directory):
            shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise

"""What of this machine matters to containers: the agent's own powers, and the devices."""

import os
import resource
import stat
from pathlib import Path
from typing import Any

from corral.agent.runtime.oci import cgroups
from corral.agent.runtime.oci.bundle import ALL_CAPABILITIES, Host

_SYS_RESOURCE = "CAP_SYS_RESOURCE"
# What each container has of its own, or must never get from the machine.
_OWN_DEVICES = ("console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout")
_OWN_DEVICES_TOO = ("tty", "urandom", "zero")


def capabilities(status: str) -> frozenset[str]:
    """The capabilities in CapEff of a /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if mask >> number & 1)


def lowest_oom_score_adj(held: frozenset[str], own: int) -> int:
    """Without CAP_SYS_RESOURCE the kernel refuses a value below one's own."""
    return -1000 if _SYS_RESOURCE in held else own


def host() -> Host:
    """This machine, as `bundle.config` needs it."""
    held = capabilities(Path("/proc/self/status").read_text())
    kind = cgroups.detect()
    swap = cgroups.ROOT / "memory" / "memory.memsw.limit_in_bytes"
    return Host(
        cgroups=kind,
        capabilities=held,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        lowest_oom_score_adj=lowest_oom_score_adj(held, int(Path("/proc/self/oom_score_adj").read_text())),
        swap_accounting=kind == "v2" or swap.exists(),
    )


def devices(directory: Path = Path("/dev")) -> tuple[dict[str, Any], ...]:
    """Every device node of the machine in the OCI runtime's form, for privileged containers."""
    found = []
    for base, directories, files in os.walk(directory):
        if base == str(directory):
            directories[:] = [name for name in directories if name not in _OWN_DEVICES]
            files = [name for name in files if name not in (*_OWN_DEVICES, *_OWN_DEVICES_TOO)]
        for name in files:
            path = os.path.join(base, name)
            status = os.lstat(path)
            kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
            if kind:
                found.append(
                    {
                        "path": path,
                        "type": kind,
                        "major": os.major(status.st_rdev),
                        "minor": os.minor(status.st_rdev),
                        "fileMode": stat.S_IMODE(status.st_mode),
                        "uid": status.st_uid,
                        "gid": status.st_gid,
                    }
                )
    return tuple(found)

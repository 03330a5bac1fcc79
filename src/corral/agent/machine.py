"""What this machine is and has, read from /proc, /sys and /etc."""

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.agent import gpus
from corral.agent.spec_builder import Dns

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
PODS = 250
_RESERVED_CPU = 100
_RESERVED_MEMORY = 256 << 20
_RESERVED_DISK_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as its Node shows it. Amounts: cpu in thousandths, everything else in whole units."""

    name: str
    addresses: Sequence[str]
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    info: Mapping[str, str] = field(default_factory=dict)
    """`nodeInfo` without what the runtime knows."""

    def hosts_file(self) -> str:
        """The machine's own /etc/hosts, for pods on its network."""
        return _read("/etc/hosts")


def read(
    name: str,
    addresses: Sequence[str],
    directory: Path,
    overrides: Mapping[str, int] | None = None,
    devices: Path = Path("/dev"),
    boot: str = "",
) -> Machine:
    """This machine. `overrides` replaces capacities (and what is allocatable), `boot` the kernel's boot id."""
    capacity = {
        "cpu": len(os.sched_getaffinity(0)) * 1000,
        "memory": _memory(),
        "ephemeral-storage": shutil.disk_usage(_existing(directory)).total,
        "pods": PODS,
        **_huge_pages(),
    }
    if found := gpus.count(devices):
        capacity[gpus.NVIDIA] = found
    capacity.update(overrides or {})
    info = {**_info(), **({"bootID": boot} if boot else {})}
    return Machine(name, tuple(addresses), capacity, allocatable(capacity, overrides or {}), info)


def allocatable(capacity: Mapping[str, int], overrides: Mapping[str, int]) -> dict[str, int]:
    """What pods may have: the capacity without a reservation for the system; overridden amounts count as they are."""
    left = dict(capacity)
    for name, reserved in (
        ("cpu", _RESERVED_CPU),
        ("memory", _RESERVED_MEMORY),
        ("ephemeral-storage", int(capacity.get("ephemeral-storage", 0) * _RESERVED_DISK_SHARE)),
    ):
        if name not in overrides:
            left[name] = max(0, left.get(name, 0) - reserved)
    return left


def resolver() -> Dns:
    """The machine's /etc/resolv.conf; behind systemd's stub the real one, which containers can reach."""
    text = _read("/etc/resolv.conf")
    if "nameserver 127.0.0.53" in text:
        text = _read("/run/systemd/resolve/resolv.conf") or text
    servers, searches = [], []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            servers.append(words[1])
        elif words and words[0] in ("search", "domain"):
            searches = words[1:]
    return Dns(machine_servers=tuple(servers), machine_searches=tuple(searches))


def _info() -> dict[str, str]:
    release = dict(
        line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line and not line.startswith("#")
    )
    return {
        "machineID": _read("/etc/machine-id").strip(),
        "systemUUID": _read("/sys/class/dmi/id/product_uuid").strip(),
        "bootID": _read("/proc/sys/kernel/random/boot_id").strip(),
        "kernelVersion": platform.release(),
        "osImage": release.get("PRETTY_NAME", "Linux").strip('"'),
        "operatingSystem": "linux",
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _huge_pages() -> dict[str, int]:
    found = {}
    for directory in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        kibibytes = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        count = int(_read(str(directory / "nr_hugepages")).strip() or 0)
        size = f"{kibibytes >> 20}Gi" if kibibytes >= 1 << 20 else f"{kibibytes >> 10}Mi"
        if kibibytes >= 1024:
            found[f"hugepages-{size}"] = count * kibibytes * 1024
    return found


def _existing(directory: Path) -> Path:
    return next(path for path in (directory, *directory.parents) if path.exists())


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def disk_used_share(directory: Path) -> float:
    """How full the file system of `directory` is, 0 to 1."""
    usage = shutil.disk_usage(_existing(directory))
    return usage.used / usage.total if usage.total else 0.0


def free_bytes(directory: Path) -> int:
    """Bytes that are free on the file system of `directory`."""
    return shutil.disk_usage(_existing(directory)).free


def memory_available() -> int:
    """Bytes that could be had without swapping (`MemAvailable`)."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _memory()


def processes() -> tuple[int, int]:
    """How many processes and threads there are, and how many there may be."""
    load = _read("/proc/loadavg").split()
    now = int(load[3].partition("/")[2]) if len(load) > 3 else 0
    limits = (_read(f"/proc/sys/kernel/{name}").strip() for name in ("pid_max", "threads-max"))
    return now, min(int(limit or 32768) for limit in limits)


def cpu_nanoseconds() -> int:
    """CPU time that all processes of this machine have used since it booted."""
    words = _read("/proc/stat").partition("\n")[0].split()[1:]
    user, nice, system = (int(word) for word in words[:3]) if len(words) >= 3 else (0, 0, 0)
    busy = user + nice + system + sum(int(word) for word in words[5:8])
    return busy * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))

"""Is this machine ready to run containers? Each check says what is wrong and the exact command that puts it right."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from corral.agent.runtime import spawn
from corral.agent.runtime.api import RuntimeFailure
from corral.agent.runtime.images.skopeo import POLICY
from corral.agent.runtime.oci import cgroups, engine, network, seccomp
from corral.base.checks import Check

_APT = "apt-get install -y --no-install-recommends"
_OLDEST_KERNEL = (5, 6)
_NEEDED_CONTROLLERS = ("cpu", "memory", "pids")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def checks() -> list[Check]:
    """All checks, in the order in which things are needed; takes some milliseconds and starts nothing."""
    return [
        root(os.geteuid()),
        kernel(os.uname().release),
        overlay(Path("/proc/filesystems").read_text()),
        control_groups(),
        *(program(*both) for both in (("conmon", "conmon"), ("nft", "nftables"), ("ip", "iproute2"))),
        oci_runtime(),
        cni(),
        port_mapping(),
        seccomp_profile(),
        seccomp_library(),
        images(),
        forwarding(_FORWARD),
    ]


def root(user: int) -> Check:
    return Check("root", user == 0, f"user {user}", "run it with sudo")


def kernel(release: str) -> Check:
    """openat2 (Linux 5.6) keeps an image's symlinks inside the image."""
    numbers = tuple(int(number) for number in release.split("-")[0].split(".")[:2] if number.isdigit())
    oldest = ".".join(map(str, _OLDEST_KERNEL))
    return Check("kernel", numbers >= _OLDEST_KERNEL, f"Linux {release}", f"use Linux {oldest} or newer")


def overlay(filesystems: str) -> Check:
    ok = any(line.split()[-1:] == ["overlay"] for line in filesystems.splitlines())
    return Check("overlayfs", ok, "available" if ok else "the kernel does not know it now", "modprobe overlay")


def control_groups() -> Check:
    try:
        kind = cgroups.detect()
        here = cgroups.Cgroups("/corral-preflight").controllers
    except OSError as error:
        return Check("control groups", False, str(error), "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    missing = [name for name in _NEEDED_CONTROLLERS if name not in here]
    detail = f"{kind}, without {', '.join(missing)}" if missing else kind
    remedy = "boot with systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory"
    return Check("control groups", not missing, detail, remedy)


def program(name: str, package: str) -> Check:
    path = shutil.which(name, path=spawn.PATH)
    return Check(name, path is not None, path or "not installed", f"{_APT} {package}")


def oci_runtime() -> Check:
    paths = [shutil.which(name, path=spawn.PATH) for name in engine.preference("auto")]
    path = next((path for path in paths if path), None)
    return Check("OCI runtime", path is not None, path or "neither crun nor runc is installed", f"{_APT} crun")


def cni() -> Check:
    return _found("CNI plugins", lambda: [network.find_plugin(name) for name in ("bridge", "host-local")])


def _found(name: str, find: Callable[[], list[str]]) -> Check:
    try:
        paths = find()
    except RuntimeFailure as error:
        return Check(name, False, error.message, error.remedy)
    return Check(name, True, str(Path(paths[0]).parent))


def port_mapping() -> Check:
    """The plugin `portmap` calls iptables; only pods with host ports need it."""
    path = shutil.which("iptables", path=spawn.PATH)
    detail = path or "not installed: pods cannot have host ports"
    return Check("iptables", path is not None, detail, f"{_APT} iptables", "wanted")


def seccomp_profile() -> Check:
    path = seccomp.default_path()
    detail = str(path) if path else "no default profile: containers may make every system call"
    return Check("seccomp profile", path is not None, detail, f"{_APT} golang-github-containers-common", "wanted")


def seccomp_library() -> Check:
    patterns = ("lib/libseccomp.so.2", "lib/*/libseccomp.so.2", "lib64/libseccomp.so.2")
    path = next((found for pattern in patterns for found in Path("/usr").glob(pattern)), None)
    detail = str(path) if path else "not found: each container starts some 13 ms later"
    return Check("libseccomp", path is not None, detail, f"{_APT} libseccomp2", "wanted")


def images() -> Check:
    """Only images other than `host` need skopeo."""
    path = shutil.which("skopeo", path=spawn.PATH)
    detail = path or "not installed: only the image `host` can be used"
    if path and not POLICY.exists():
        detail = f"{path}, without {POLICY}: signatures are not checked"
    return Check("skopeo", path is not None, detail, f"{_APT} skopeo", "wanted")


def forwarding(path: Path) -> Check:
    """Packets of pods have to pass through; switched on here and now where it is off."""
    try:
        if path.read_text().strip() == "1":
            return Check("IP forwarding", True, "on")
        path.write_text("1")
    except OSError as error:
        return Check(
            "IP forwarding", False, f"cannot switch it on: {error.strerror}", "sysctl -w net.ipv4.ip_forward=1"
        )
    return Check("IP forwarding", True, "was off, is on now (until the next boot)")

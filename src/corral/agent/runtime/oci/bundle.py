"""A container as the OCI runtime wants it: ContainerSpec and image config in, `config.json` out. Pure.

The defaults (capabilities, masked and read-only paths, mounts) are the ones docker and containerd give an unprivileged
container; the form is the OCI runtime specification 1.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.agent.runtime.api import ContainerSpec, Image, Mount, Resources, RuntimeFailure, SandboxSpec, Security
from corral.agent.runtime.oci.cgroups import PERIOD, Kind
from corral.agent.runtime.oci.users import Identity
from corral.agent.runtime.spawn import PATH

Config = dict[str, Any]

DEFAULT_CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)

# In the order of their numbers (linux/capability.h).
ALL_CAPABILITIES = (
    *(f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID")),
    *(f"CAP_{name}" for name in ("SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST")),
    *(f"CAP_{name}" for name in ("NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO")),
    *(f"CAP_{name}" for name in ("SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE")),
    *(f"CAP_{name}" for name in ("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE")),
    *(f"CAP_{name}" for name in ("AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM")),
    *(f"CAP_{name}" for name in ("BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE")),
)

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True)
class Host:
    """What of this machine shapes a container's configuration."""

    cgroups: Kind
    capabilities: frozenset[str]
    """What the agent itself may give away."""
    open_files: int
    """The most open files that the agent may allow (RLIMIT_NOFILE's hard limit)."""
    lowest_oom_score_adj: int = -1000
    """Lower values are refused by the kernel (no CAP_SYS_RESOURCE)."""
    swap_accounting: bool = False
    devices: tuple[Config, ...] = ()
    """The devices of the machine that the container gets: if it is privileged, all of them."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the container joins and stands on."""

    sandbox: SandboxSpec
    root: str
    namespaces: Mapping[str, str]
    """OCI namespace type to the path to join, for what the pod shares."""
    shm: str
    cgroup: str
    image_mounts: Sequence[Mount] = ()
    seccomp: Config | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def arguments(spec: ContainerSpec, image: Image) -> list[str]:
    """What to run: Kubernetes' `command` replaces the entrypoint and drops the image's cmd; `args` replaces cmd.

    Raises:
        RuntimeFailure: there is nothing to run.
    """
    entrypoint, cmd = _words(image, "Entrypoint"), _words(image, "Cmd")
    if spec.command:
        argv = [*spec.command, *spec.args]
    elif spec.args:
        argv = [*entrypoint, *spec.args]
    else:
        argv = [*entrypoint, *cmd]
    if not argv:
        raise RuntimeFailure(
            "CreateContainerError",
            f"cannot run container {spec.name}: neither it nor image {spec.image} has a command",
            "set the container's command",
        )
    return argv


def _words(image: Image, key: str) -> list[str]:
    value = image.config.get(key)
    return [str(word) for word in value] if isinstance(value, list) else []


def environment(spec: ContainerSpec, image: Image, hostname: str, home: str) -> list[str]:
    """The image's variables, then what every container gets, then the container's own, which win."""
    variables = {"PATH": PATH, "HOSTNAME": hostname, **({"TERM": "xterm"} if spec.tty else {})}
    variables |= dict(word.partition("=")[::2] for word in _words(image, "Env"))
    variables.setdefault("HOME", home)
    variables |= dict(spec.env)
    return [f"{name}={value}" for name, value in variables.items()]


def capabilities(security: Security, host: frozenset[str]) -> list[str]:
    """What the container's process may keep: the defaults, plus `add`, less `drop` (ALL stands for all)."""
    if security.privileged:
        return [name for name in ALL_CAPABILITIES if name in host]
    added = {_capability(name) for name in security.add_capabilities}
    dropped = {_capability(name) for name in security.drop_capabilities}
    base = set() if "CAP_ALL" in dropped else set(DEFAULT_CAPABILITIES)
    if "CAP_ALL" in added:
        base = set(ALL_CAPABILITIES)
    kept = (base | added) - (dropped - {"CAP_ALL"})
    return [name for name in ALL_CAPABILITIES if name in kept and name in host]


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def config(spec: ContainerSpec, image: Image, around: Surroundings, who: Identity, host: Host) -> Config:
    """The whole `config.json`.

    Raises:
        RuntimeFailure: there is nothing to run.
    """
    made: Config = {
        "ociVersion": "1.0.2",
        "process": _process(spec, image, around, who, host),
        "root": {"path": around.root, "readonly": spec.security.read_only_root},
        "mounts": _mounts(spec, around, host),
        "linux": _linux(spec, around, host),
        "annotations": dict(around.annotations),
    }
    return made


def _process(spec: ContainerSpec, image: Image, around: Surroundings, who: Identity, host: Host) -> Config:
    kept = capabilities(spec.security, host.capabilities)
    open_files = min(1 << 20, host.open_files)
    image_directory = image.config.get("WorkingDir")
    return {
        "terminal": spec.tty,
        "user": {"uid": who.uid, "gid": who.gid, "additionalGids": list(who.groups)},
        "args": arguments(spec, image),
        "env": environment(spec, image, around.sandbox.hostname, who.home),
        "cwd": spec.working_dir or (image_directory if isinstance(image_directory, str) else "") or "/",
        "capabilities": {"bounding": kept, "effective": kept, "permitted": kept},
        "noNewPrivileges": not (spec.security.privileged or spec.security.allow_privilege_escalation),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": open_files, "hard": open_files}],
        "oomScoreAdj": max(spec.resources.oom_score_adj, host.lowest_oom_score_adj),
    }


def _mounts(spec: ContainerSpec, around: Surroundings, host: Host) -> list[Config]:
    privileged = spec.security.privileged
    system = "rw" if privileged else "ro"
    made = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "bind", around.shm, "rbind", "rprivate", "rw", "nosuid", "noexec", "nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", system),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", system),
    ]
    given = {mount.target.rstrip("/") for mount in spec.mounts}
    made = [mount for mount in made if mount["destination"] not in given]
    # A mount below another's target has to come after it.
    every = sorted([*around.image_mounts, *spec.mounts], key=lambda mount: mount.target.count("/"))
    return made + [_image_bind(mount) if mount in around.image_mounts else _bind(mount) for mount in every]


def _mount(destination: str, kind: str, source: str, *options: str) -> Config:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(mount: Mount) -> Config:
    return _mount(mount.target, "bind", mount.source, "rbind", mount.propagation, "ro" if mount.read_only else "rw")


def _image_bind(mount: Mount) -> Config:
    """A part of the machine as a part of the image: not with what is mounted below it, which `ro` would not cover."""
    return _mount(mount.target, "bind", mount.source, "bind", "rprivate", "ro", "nosuid", "nodev")


def _linux(spec: ContainerSpec, around: Surroundings, host: Host) -> Config:
    privileged = spec.security.privileged
    linux: Config = {
        "namespaces": _namespaces(around, host),
        "cgroupsPath": around.cgroup,
        "resources": {**resources(spec.resources, host), "devices": _device_rules(host, privileged=privileged)},
        "rootfsPropagation": _root_propagation(spec.mounts),
    }
    if host.devices:
        linux["devices"] = list(host.devices)
    if not privileged:
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
        if around.seccomp is not None:
            linux["seccomp"] = around.seccomp
    return linux


def _device_rules(host: Host, *, privileged: bool) -> list[Config]:
    """All devices or none, and then those that the container gets; its own kind (null, tty ...) the runtime adds."""
    named = [{part: device[part] for part in ("type", "major", "minor")} for device in host.devices if not privileged]
    return [{"allow": privileged, "access": "rwm"}, *({"allow": True, **device, "access": "rw"} for device in named)]


def _root_propagation(mounts: Sequence[Mount]) -> str:
    """Mounts can only propagate through a root that lets them."""
    words = {mount.propagation.lstrip("r") for mount in mounts}
    if "shared" in words:
        return "shared"
    return "slave" if "slave" in words else "private"


def _namespaces(around: Surroundings, host: Host) -> list[Config]:
    """Its own mount (and, unless shared, PID) namespace; what the pod has, by path; the machine's are left out."""
    made: list[Config] = [{"type": "mount"}]
    if host.cgroups == "v2":
        made.append({"type": "cgroup"})
    if "pid" not in around.namespaces and not around.sandbox.host_pid:
        made.append({"type": "pid"})
    return made + [{"type": kind, "path": path} for kind, path in around.namespaces.items()]


def resources(limits: Resources, host: Host) -> Config:
    """OCI resources, in v1's terms; the OCI runtime converts for v2."""
    cpu: Config = {"shares": max(limits.cpu_shares, 2)}
    if limits.cpu_quota:
        cpu |= {"period": PERIOD, "quota": limits.cpu_quota}
    if limits.cpuset:
        cpu["cpus"] = limits.cpuset
    made: Config = {"cpu": cpu}
    if limits.memory_limit:
        made["memory"] = {"limit": limits.memory_limit}
        if host.swap_accounting:
            made["memory"]["swap"] = limits.memory_limit
    if limits.pids_limit:
        made["pids"] = {"limit": limits.pids_limit}
    if host.cgroups == "v2":
        # As the kubelet has it: a container that is out of memory ends as a whole, not in one of its processes.
        made["unified"] = {"memory.oom.group": "1"}
    return made

"""The runtime seam: what the agent needs of a machine's container runtime.

It is the shape of Kubernetes' CRI (sandboxes, containers, images) without its gRPC. Implementations: `oci` (conmon with
crun or runc, CNI, overlayfs) and `corral.testing.FakeRuntime`; `corral.testing.runtime_suite` runs against both.
Everything a runtime knows survives the agent: after a restart `sandboxes()` and `containers()` tell it all again,
including exit codes of containers that ended in between.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from corral.base.errors import CorralError


class ContainerState(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class PortMapping:
    """`hostPort` of a container port; `protocol` is TCP, UDP or SCTP."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A pod's shared namespaces. `id` is chosen by the caller and unique for ever (pod uid and attempt)."""

    id: str
    pod_uid: str
    namespace: str
    name: str
    hostname: str
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    ports: Sequence[PortMapping] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    cpu_weight: int = 0
    """Kubernetes' cpu shares of the whole pod (2..262144), 0 for the least."""
    cpu_quota: int = 0
    """Microseconds of CPU time in each period of 100,000 for the whole pod; 0 is no limit."""
    memory_limit: int = 0
    """Bytes for the whole pod; 0 is no limit."""
    pids_limit: int = 0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as it is."""

    id: str
    pod_uid: str
    namespace: str
    name: str
    ready: bool
    """False when its namespaces are gone (a reboot): only removal is left."""
    addresses: Sequence[str]
    """IP addresses, the primary first; empty on the host's network."""
    created: datetime


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount of `source` on the machine at `target` in the container; `propagation` is a mount(8) word."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"


@dataclass(frozen=True, slots=True)
class Resources:
    """Enforced through cgroups; 0 means no limit."""

    cpu_shares: int = 2
    cpu_quota: int = 0
    """Microseconds of CPU time in each period of 100,000."""
    memory_limit: int = 0
    """Bytes."""
    pids_limit: int = 0
    oom_score_adj: int = 0
    cpuset: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """What the process may do. The defaults are those of Corral: no new privileges, seccomp, few capabilities."""

    privileged: bool = False
    user: str = ""
    """`uid[:gid]` or a name to be looked up in the image's /etc/passwd; empty is the image's user."""
    run_as_non_root: bool = False
    supplemental_groups: Sequence[int] = ()
    add_capabilities: Sequence[str] = ()
    drop_capabilities: Sequence[str] = ()
    read_only_root: bool = False
    allow_privilege_escalation: bool = False
    seccomp: str = "RuntimeDefault"
    """`RuntimeDefault`, `Unconfined`, or the path of a profile."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container. `id` is chosen by the caller and unique for ever (pod uid, container name and attempt)."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image: str
    """An image id or reference that `Images.status` knows."""
    command: Sequence[str] = ()
    """Kubernetes' `command`; empty: the image's entrypoint."""
    args: Sequence[str] = ()
    env: Sequence[tuple[str, str]] = ()
    working_dir: str = ""
    mounts: Sequence[Mount] = ()
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    log_path: str = ""
    """The CRI-format log file; its directory exists."""
    target_pid_namespace: str = ""
    """The container whose PID namespace this one joins (ephemeral containers), by id."""
    devices: Sequence[str] = ()
    """Device nodes of the machine that it may use, as far as they are there."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as it is."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    image_id: str
    state: ContainerState
    created: datetime
    started: datetime | None = None
    finished: datetime | None = None
    exit_code: int | None = None
    oom_killed: bool = False
    pid: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """A container's or a sandbox's use, cumulative CPU in nanoseconds, memory in bytes."""

    cpu_ns: int
    memory_bytes: int
    working_set_bytes: int
    rss_bytes: int
    pids: int
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine. `config` is the OCI image config's `config` object."""

    id: str
    references: Sequence[str]
    size: int
    config: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ImageAuth:
    """Credentials for one registry; never logged."""

    username: str = field(repr=False, default="")
    password: str = field(repr=False, default="")


class RuntimeFailure(CorralError):
    """The runtime could not do it. `reason` is Kubernetes' word: `CreateContainerError`, `RunContainerError`,
    `CreateContainerConfigError`, `ErrImagePull`, `ImageInspectError`, `InvalidImageName`, `ErrImageNeverPull` ..."""

    def __init__(self, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.reason = reason


class Process(Protocol):
    """A process in a container that somebody holds streams to: an exec, or an attach to the main process.

    The stream of a tty is `stdout`; `stderr` then ends at once.
    """

    async def write_stdin(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    def stdout(self) -> AsyncIterator[bytes]: ...

    def stderr(self) -> AsyncIterator[bytes]: ...

    async def resize(self, width: int, height: int) -> None:
        """Set the terminal's size; ignored without a tty."""

    async def wait(self) -> int:
        """The exit code (128 + signal if killed); for an attach, that of the container."""

    async def close(self) -> None:
        """Let go: an exec'd process is killed, an attached container goes on."""


class Images(Protocol):
    """Images on this machine."""

    async def status(self, reference: str) -> Image | None:
        """The image that `reference` (name, name@digest, id, or `host`) means here, if present."""

    async def pull(self, reference: str, auths: Sequence[ImageAuth] = ()) -> Image:
        """Fetch the image; does nothing for `host`.

        Raises:
            RuntimeFailure: `ErrImagePull`, `InvalidImageName`, with the registry's own words.
        """

    async def load(self, path: str, reference: str = "") -> Image:
        """Take in an OCI archive, a docker archive or an OCI layout directory."""

    async def list(self) -> Sequence[Image]: ...

    async def remove(self, image_id: str) -> None:
        """Forget an image that no container uses."""


class Runtime(Protocol):
    """Sandboxes and containers on this machine. Every call is idempotent where that has a meaning."""

    @property
    def images(self) -> Images: ...

    @property
    def version(self) -> str:
        """For `status.nodeInfo.containerRuntimeVersion`: `corral+crun://1.8.1`."""

    async def open(self) -> None:
        """Find out what is there, adopt it, and clear half-made leftovers."""

    async def close(self) -> None:
        """Let go of everything; containers run on."""

    async def check(self) -> None:
        """Ask everything that containers are made with whether it is there and answers; makes nothing.

        Raises:
            RuntimeFailure, OSError: something does not.
        """

    async def recover(self) -> str:
        """What restarting a runtime is for: end calls that hang, find its programs anew, and look whether all that is
        said to run does. Containers run on. Returns what was found, in words.

        Raises:
            RuntimeFailure, OSError: it still does not answer.
        """

    async def create_sandbox(self, spec: SandboxSpec) -> Sandbox: ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """Remove the sandbox with its containers, addresses, mounts and cgroups."""

    async def create_container(self, spec: ContainerSpec) -> Container: ...

    async def start_container(self, container_id: str) -> Container: ...

    async def stop_container(self, container_id: str, grace: float) -> None:
        """Send the image's stop signal, and after `grace` seconds SIGKILL; returns when the container has ended."""

    async def kill_container(self, container_id: str, signal: int) -> None: ...

    async def remove_container(self, container_id: str) -> None: ...

    async def sandboxes(self) -> Sequence[Sandbox]: ...

    async def containers(self) -> Sequence[Container]: ...

    def exits(self) -> AsyncIterator[Container]:
        """Containers as they end, from now on (what ended earlier is told by `containers()`)."""

    async def exec(self, container_id: str, argv: Sequence[str], *, tty: bool = False, stdin: bool = False) -> Process:
        """Run another process in a running container."""

    async def attach(self, container_id: str, *, stdin: bool = False) -> Process: ...

    async def update_resources(self, container_id: str, resources: Resources) -> None: ...

    async def usage(self, container_id: str) -> Usage | None:
        """None when the container does not run."""

    def network_namespace(self, sandbox_id: str) -> str:
        """The path that enters the sandbox's network namespace (for probes, port forwarding); empty on the host's."""

    async def reopen_log(self, container_id: str) -> None:
        """The log file was rotated: write to a new one at the same path."""

    def written(self, container_id: str) -> str:
        """The directory on the machine that holds what the container has written to its root, if it is still there."""

    def control_groups(self) -> list[str]:
        """Directories of control groups that hold the pods' own, for whoever kills them when the agent is dead."""

    def root(self, container_id: str) -> str:
        """The container's root directory on the machine, for reading files out of it."""

"""Control groups, v1, hybrid and v2: one parent for the cell, one group for each pod, one for each container.

    /corral-CELL/                 also holds `conmon`, where the monitors live, out of reach of the agent's own group
    /corral-CELL/pod-UID/         the pod's limits
    /corral-CELL/pod-UID/ID       made by the OCI runtime

What to write where is decided purely (`settings`), so that v2 is tested on machines without it. Conversion of cpu
shares to v2's weight: 1 + ((shares - 2) * 9999) / 262142 (KEP-2254).
"""

import errno
import logging
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from corral.agent.runtime.api import RuntimeFailure, Usage

log = logging.getLogger(__name__)

Kind = Literal["v1", "hybrid", "v2"]
ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds of a CPU quota's period."""

_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_COUNTED = ("", "pids", "memory", "systemd")
"""Hierarchies of which each alone should know every process of a container."""
_POD_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use; 0 means no limit (for `cpu_shares`: leave as it is)."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    memory: int = 0
    pids: int = 0
    cpuset: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One write: `value` into `file` of a group in a v1 `controller`'s hierarchy (or the only one of v2)."""

    controller: str
    file: str
    value: str


def detect(root: Path = ROOT) -> Kind:
    """Which control groups this machine has."""
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "hybrid" if (root / "unified" / "cgroup.procs").exists() else "v1"


def weight(shares: int) -> int:
    """cgroup v2's cpu.weight (1..10000) for v1's cpu.shares (2..262144)."""
    clamped = min(max(shares, 2), 262_144)
    return 1 + ((clamped - 2) * 9999) // 262_142


def settings(kind: Kind, limits: Limits) -> list[Setting]:
    """The writes that make a group have `limits`, in an order that the kernel accepts."""
    if kind == "v2":
        quota = str(limits.cpu_quota) if limits.cpu_quota else "max"
        writes = [
            Setting("cpu", "cpu.max", f"{quota} {PERIOD}"),
            Setting("memory", "memory.max", str(limits.memory) if limits.memory else "max"),
            Setting("pids", "pids.max", str(limits.pids) if limits.pids else "max"),
        ]
        if limits.cpu_shares:
            writes.append(Setting("cpu", "cpu.weight", str(weight(limits.cpu_shares))))
    else:
        writes = [
            Setting("cpu", "cpu.cfs_period_us", str(PERIOD)),
            Setting("cpu", "cpu.cfs_quota_us", str(limits.cpu_quota or -1)),
            Setting("memory", "memory.limit_in_bytes", str(limits.memory or -1)),
            Setting("pids", "pids.max", str(limits.pids) if limits.pids else "max"),
        ]
        if limits.cpu_shares:
            writes.append(Setting("cpu", "cpu.shares", str(limits.cpu_shares)))
    if limits.cpuset:
        writes.append(Setting("cpuset", "cpuset.cpus", limits.cpuset))
    return writes


def defaults(kind: Kind) -> list[Setting]:
    """What a fresh group already is, so that it need not be written."""
    return settings(kind, Limits())


def parse_flat(text: str) -> dict[str, int]:
    """A flat keyed file (`memory.stat`, `cpu.stat`, `memory.events`)."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def usage_from(kind: Kind, files: Mapping[str, str]) -> Usage:
    """A group's use from the contents of its files (missing ones count as empty)."""
    stat = parse_flat(files.get("memory.stat", ""))
    if kind == "v2":
        cpu = parse_flat(files.get("cpu.stat", "")).get("usage_usec", 0) * 1000
        memory = int(files.get("memory.current") or 0)
        inactive, rss = stat.get("inactive_file", 0), stat.get("anon", 0)
        kills = parse_flat(files.get("memory.events", "")).get("oom_kill", 0)
    else:
        cpu = int(files.get("cpuacct.usage") or 0)
        memory = int(files.get("memory.usage_in_bytes") or 0)
        inactive, rss = stat.get("total_inactive_file", 0), stat.get("total_rss", 0)
        kills = parse_flat(files.get("memory.oom_control", "")).get("oom_kill", 0)
    return Usage(
        cpu_ns=cpu,
        memory_bytes=memory,
        working_set_bytes=max(memory - inactive, 0),
        rss_bytes=rss,
        pids=int(files.get("pids.current") or 0),
        oom_kills=kills,
    )


_USAGE_FILES: Mapping[bool, tuple[tuple[str, str], ...]] = {
    True: (
        ("cpu", "cpu.stat"),
        ("memory", "memory.current"),
        ("memory", "memory.stat"),
        ("memory", "memory.events"),
        ("pids", "pids.current"),
    ),
    False: (
        ("cpuacct", "cpuacct.usage"),
        ("memory", "memory.usage_in_bytes"),
        ("memory", "memory.stat"),
        ("memory", "memory.oom_control"),
        ("pids", "pids.current"),
    ),
}


class Cgroups:
    """The groups of one cell on this machine. `parent` is the cell's group, such as `/corral-ab12cd`."""

    def __init__(self, parent: str, root: Path = ROOT) -> None:
        self.parent = parent
        self.kind: Kind = detect(root)
        self._root = root
        self._hierarchies = self._find_hierarchies()
        self._monitored = self._monitor_hierarchies()

    def _find_hierarchies(self) -> dict[str, Path]:
        """Where each controller is mounted; every hierarchy once under some name."""
        if self.kind == "v2":
            return {"": self._root}
        return {entry.name: entry for entry in sorted(self._root.iterdir()) if (entry / "cgroup.procs").exists()}

    def _hierarchy(self, controller: str) -> Path | None:
        return self._hierarchies.get("" if self.kind == "v2" else controller)

    @property
    def controllers(self) -> set[str]:
        """The controllers that can be used."""
        if self.kind == "v2":
            return set((self._root / "cgroup.controllers").read_text().split())
        return set(self._hierarchies)

    def pod(self, pod_uid: str) -> str:
        return f"{self.parent}/pod-{pod_uid}"

    def pods(self) -> set[str]:
        """The groups of pods that are there."""
        found = (path for root in self._hierarchies.values() for path in (root / self.parent.lstrip("/")).glob("pod-*"))
        return {f"{self.parent}/{path.name}" for path in found if path.is_dir()}

    def prepare(self) -> None:
        """Make the cell's group and the monitors' group."""
        self._make(self.parent, self._hierarchies)
        self._make(f"{self.parent}/conmon", self._monitored)

    def _monitor_hierarchies(self) -> list[str]:
        """The hierarchies in which somebody put the agent into a group, and may clear that group with all in it.

        Only these: each move costs milliseconds (it waits for all processors).
        """
        memberships = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        inside = {
            name.removeprefix("name=") for _, names, group in memberships if group != "/" for name in names.split(",")
        }
        return [name for name in self._hierarchies if (name if name != "unified" else "") in inside]

    def _make(self, group: str, hierarchies: Iterable[str]) -> None:
        for name in hierarchies:
            path = self._hierarchies[name] / group.lstrip("/")
            if path.is_dir():
                continue
            path.mkdir(parents=True, exist_ok=True)
            if self.kind == "v2":
                self._delegate(path.parent)
            elif name == "cpuset":
                _inherit_cpuset(path)

    def _delegate(self, path: Path) -> None:
        """Let the children of `path` have the controllers we use (nothing is moved, nothing is taken away)."""
        for group in [*reversed([p for p in path.parents if p.is_relative_to(self._root)]), path]:
            have = set((group / "cgroup.subtree_control").read_text().split())
            offered = set((group / "cgroup.controllers").read_text().split())
            for controller in _V2_CONTROLLERS:
                if controller in offered and controller not in have:
                    self._enable(group, controller)

    def _enable(self, group: Path, controller: str) -> None:
        try:
            _write(group / "cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            if error.errno == errno.EBUSY:  # the rule of no inner processes; only the machine's own root is exempt
                raise RuntimeFailure(
                    "RuntimeNotReady",
                    f"cannot limit what pods use: control group {group} has processes of its own, so its children get "
                    f"no {controller} controller",
                    "run Corral on the machine itself, or move these processes into a group below it first",
                ) from error
            # The cpu controller, for one, is refused while there are real-time processes.
            log.warning("cannot enable the %s controller in %s: %s", controller, group, error.strerror)

    def create_pod(self, pod_uid: str, limits: Limits) -> str:
        """Make the pod's group with its limits; returns its path."""
        group = self.pod(pod_uid)
        self._make(group, self._hierarchies if self.kind == "v2" else self._pod_hierarchies())
        self.apply(group, limits, skip=defaults(self.kind))
        return group

    def _pod_hierarchies(self) -> list[str]:
        return [name for name in _POD_CONTROLLERS if name in self._hierarchies]

    def apply(self, group: str, limits: Limits, skip: Iterable[Setting] = ()) -> None:
        """Write `limits`, except what `skip` says is so already."""
        known = set(skip)
        for setting in settings(self.kind, limits):
            hierarchy = self._hierarchy(setting.controller)
            if setting in known or hierarchy is None:
                continue
            path = hierarchy / group.lstrip("/") / setting.file
            if path.exists():
                _write(path, setting.value)

    @property
    def children_stay(self) -> bool:
        """Whether a container remains in the group of its monitor in some hierarchy, so that the monitor has to be
        moved before it creates anything: in hybrid mode OCI runtimes know nothing of the v2 hierarchy."""
        return "unified" in self._monitored

    def adopt_monitor(self, pid: int) -> None:
        """Move a monitor into the cell's group, so that nobody who ends the agent's group ends it too.

        Raises:
            ProcessLookupError: it has ended.
        """
        for name in self._monitored:
            _write(self._hierarchies[name] / self.parent.lstrip("/") / "conmon" / "cgroup.procs", str(pid))

    def usage(self, group: str) -> Usage | None:
        """What the group uses; None when it is gone."""
        files: dict[str, str] = {}
        for controller, name in _USAGE_FILES[self.kind == "v2"]:
            hierarchy = self._hierarchy(controller)
            if hierarchy is not None:
                try:
                    files[name] = (hierarchy / group.lstrip("/") / name).read_text()
                except OSError:
                    continue
        return usage_from(self.kind, files) if files else None

    def oom_kills(self, group: str) -> int:
        """How often the kernel killed a process of the group for want of memory."""
        hierarchy = self._hierarchy("memory")
        if hierarchy is None:
            return 0
        name = "memory.events" if self.kind == "v2" else "memory.oom_control"
        try:
            return parse_flat((hierarchy / group.lstrip("/") / name).read_text()).get("oom_kill", 0)
        except OSError:
            return 0

    def directories(self) -> list[str]:
        """Where the cell's group is in the hierarchies that know all its processes."""
        known = (self._hierarchies.get(name) for name in _COUNTED)
        return [str(hierarchy / self.parent.lstrip("/")) for hierarchy in known if hierarchy is not None]

    def processes(self, group: str) -> set[int]:
        """The processes in the group (and below it)."""
        found: set[int] = set()
        for name in _COUNTED:
            hierarchy = self._hierarchies.get(name)
            if hierarchy is not None:
                for path in (hierarchy / group.lstrip("/")).rglob("cgroup.procs"):
                    try:
                        found.update(int(pid) for pid in path.read_text().split())
                    except OSError:
                        continue
        return found

    def kill(self, group: str) -> None:
        """SIGKILL whatever is in the group, also what forks faster than it is killed."""
        if self.kind == "v2":
            at_once = self._root / group.lstrip("/") / "cgroup.kill"  # Linux 5.14
            if at_once.exists():
                _write(at_once, "1")
                return
        killed: set[int] = set()
        while fresh := self.processes(group) - killed:
            killed |= fresh
            for pid in fresh:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def remove(self, group: str) -> bool:
        """Remove the group and those below it; False when something in it is still busy."""
        done = True
        for hierarchy in self._hierarchies.values():
            top = hierarchy / group.lstrip("/")
            if not top.is_dir():
                continue
            for path in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
                try:
                    path.rmdir()
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    done = False
        return done


def _inherit_cpuset(path: Path) -> None:
    """A v1 cpuset group accepts no process before it has cpus and memory nodes: take the parent's, top down."""
    chain = [path]
    while not (chain[-1].parent / "cpuset.cpus").read_text().strip():
        chain.append(chain[-1].parent)
    for group in reversed(chain):
        for name in ("cpuset.cpus", "cpuset.mems"):
            _write(group / name, (group.parent / name).read_text().strip())


def _write(path: Path, value: str) -> None:
    with path.open("w") as file:
        file.write(value)

"""What machines hold for pods: directories, namespaces, addresses, control groups, containers. All of it should be of
pods that the API still has there."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from corral.app.config import CellConfig

_UID: Final = 36
"""Characters; names of sandboxes begin with their pod's."""


def leaks(data_dirs: Mapping[str, Path], pods: Iterable[Any]) -> list[str]:
    """What the machines (names and data directories) hold without being meant to, or do not hold though they should."""
    uids, running = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for pod in pods:
        node = pod["spec"].get("nodeName", "")
        uids[node].add(pod["metadata"]["uid"])
        for status in pod["status"].get("containerStatuses") or ():
            if "running" in status["state"]:
                running[node].add(status["containerID"].rpartition("//")[2])
    found = []
    for name, data_dir in data_dirs.items():
        for kind, held in _held(data_dir).items():
            if not held <= uids[name]:
                found.append(f"{name} holds {kind} of pods that are gone: {sorted(held - uids[name])}")
        if (alive := _containers(data_dir)) != running[name]:
            found.append(f"{name} runs the containers {sorted(alive)}, the API says {sorted(running[name])}")
    return found


def _held(data_dir: Path) -> dict[str, set[str]]:
    """The uids of the pods that a machine has something of, by what that is."""
    agent, group = data_dir / "agent", f"corral-{CellConfig(data_dir).name}"
    mounted = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    root = Path("/sys/fs/cgroup")
    return {
        "directories": {path.name for path in (agent / "pods").iterdir()},
        "sandboxes": {path.name[:_UID] for path in (agent / "sandboxes").iterdir()},
        "mounts": {
            path.relative_to(agent / kind).parts[0][:_UID]
            for kind in ("pods", "sandboxes")
            for path in mounted
            if path.is_relative_to(agent / kind)
        },
        "addresses": {path.read_text()[:_UID] for path in (agent / "network").glob("*/[0-9]*.[0-9]*")},
        "control groups": {
            path.name.removeprefix("pod-")
            for place in (root / group, *root.glob(f"*/{group}"))
            for path in place.glob("pod-*")
        },
    }


def _containers(data_dir: Path) -> set[str]:
    """Ids of the containers whose program runs: a monitor with children holds each, and names it."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            children = (entry / "task" / entry.name / "children").read_text()
        except OSError:
            continue
        if command[0].endswith("conmon") and children and any(str(data_dir) in word for word in command):
            found.add(command[command.index("--cid") + 1])
    return found

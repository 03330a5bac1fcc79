"""This machine's Node object. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.agent.machine import Machine
from corral.agent.runtime.api import Image
from corral.base.clock import rfc3339
from corral.base.quantities import format_bytes, format_milli
from corral.kinds.storage import VOLUMES_DIRECTORY
from corral.kinds.types import Obj

KUBELET_VERSION = "v1.36.0"
_MOST_IMAGES = 50
_MOST_NAMES = 5
_MEMORY_FLOOR = 100 << 20
"""Below this much available memory the machine is under pressure (the kubelet's eviction threshold)."""
DISK_PRESSURE = 0.9
_PIDS_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Health:
    """What conditions are made of. Shares are 0 to 1."""

    memory_available: int
    disk_used: float
    processes: int
    process_limit: int
    runtime_error: str = ""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What a Node says of the agent rather than of the machine."""

    labels: Mapping[str, str]
    taints: Sequence[Obj]
    port: int
    """Where the agent's server listens."""
    runtime_version: str
    volumes_directory: str = ""
    """Where volumes that belong to the machine are kept; empty: nowhere."""


def quantity(name: str, amount: int) -> str:
    """An amount as the API shows it."""
    if name == "cpu":
        return format_milli(amount)
    return (
        format_bytes(amount)
        if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-")
        else str(amount)
    )


def labels_of(machine: Machine, extra: Mapping[str, str]) -> dict[str, str]:
    """The labels that every Node has, and the machine's own."""
    arch, os_name = machine.info.get("architecture", ""), machine.info.get("operatingSystem", "linux")
    return {
        "kubernetes.io/hostname": machine.name,
        "kubernetes.io/os": os_name,
        "kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": os_name,
        "beta.kubernetes.io/arch": arch,
        "node.kubernetes.io/instance-type": "corral",
        **extra,
    }


def new_node(machine: Machine, spec: NodeSpec) -> Obj:
    """The Node to register; its status follows."""
    node: Obj = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine.name, "labels": labels_of(machine, spec.labels)},
        "spec": {},
    }
    if spec.volumes_directory:
        node["metadata"]["annotations"] = {VOLUMES_DIRECTORY: spec.volumes_directory}
    if spec.taints:
        node["spec"]["taints"] = list(spec.taints)
    return node


def status(machine: Machine, spec: NodeSpec, health: Health, images: Sequence[Image], old: Obj, now: datetime) -> Obj:
    """The Node's status; conditions keep their transition times from `old`."""
    return {
        "capacity": {name: quantity(name, amount) for name, amount in machine.capacity.items()},
        "allocatable": {name: quantity(name, amount) for name, amount in machine.allocatable.items()},
        "conditions": conditions(health, old, now),
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in machine.addresses),
            {"type": "Hostname", "address": machine.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": spec.port}},
        "nodeInfo": {
            **machine.info,
            "containerRuntimeVersion": spec.runtime_version,
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": KUBELET_VERSION,
        },
        "images": [
            {"names": list(image.references[:_MOST_NAMES]), "sizeBytes": image.size}
            for image in sorted(images, key=lambda image: -image.size)[:_MOST_IMAGES]
            if image.references
        ],
    }


def conditions(health: Health, old: Obj, now: datetime) -> list[Obj]:
    """MemoryPressure, DiskPressure, PIDPressure, Ready."""
    low_memory = health.memory_available < _MEMORY_FLOOR
    full_disk = health.disk_used > DISK_PRESSURE
    many = health.processes > health.process_limit * _PIDS_SHARE
    before = {condition["type"]: condition for condition in old.get("conditions") or ()}
    told = [
        ("MemoryPressure", low_memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory"),
        ("DiskPressure", full_disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk"),
        ("PIDPressure", many, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID"),
    ]
    found = []
    for type_, bad, bad_reason, good_reason, what in told:
        message = f"kubelet has {'insufficient' if bad else 'sufficient'} {what} available"
        if type_ == "DiskPressure":
            message = f"kubelet has {'' if bad else 'no '}disk pressure"
        found.append(_condition(type_, bad, bad_reason if bad else good_reason, message, before, now))
    ready = not health.runtime_error
    message = health.runtime_error or "kubelet is posting ready status"
    found.append(_condition("Ready", ready, "KubeletReady" if ready else "KubeletNotReady", message, before, now))
    return found


def _condition(type_: str, value: bool, reason: str, message: str, before: Mapping[str, Obj], now: datetime) -> Obj:
    status_ = "True" if value else "False"
    old = before.get(type_)
    changed = old is None or old.get("status") != status_
    return {
        "type": type_,
        "status": status_,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now) if changed or old is None else old.get("lastTransitionTime"),
        "reason": reason,
        "message": message,
    }


def significant(status_: Obj) -> Obj:
    """A status without what changes on every look: what makes a report due before its time."""
    plain = [
        {field: value for field, value in condition.items() if field != "lastHeartbeatTime"}
        for condition in status_["conditions"]
    ]
    return {**status_, "conditions": plain}

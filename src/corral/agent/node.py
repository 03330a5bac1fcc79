"""This machine's Node object. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from corral.agent.machine import Machine
from corral.agent.problems.api import Finding
from corral.agent.runtime.api import Image
from corral.base.clock import rfc3339
from corral.base.quantities import format_bytes, format_milli
from corral.kinds.podnetwork import PROPOSAL
from corral.kinds.storage import VOLUMES_DIRECTORY
from corral.kinds.types import Obj

KUBELET_VERSION = "v1.36.0"
_MOST_IMAGES = 50
_MOST_NAMES = 5
RUNTIME = "RuntimeUnhealthy"


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


def new_node(machine: Machine, spec: NodeSpec, pod_cidr: str = "") -> Obj:
    """The Node to register; its status follows. `pod_cidr` is what the machine proposes for its pods."""
    node: Obj = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": machine.name, "labels": labels_of(machine, spec.labels)},
        "spec": {},
    }
    annotations = {VOLUMES_DIRECTORY: spec.volumes_directory, PROPOSAL: pod_cidr}
    if any(annotations.values()):
        node["metadata"]["annotations"] = {name: text for name, text in annotations.items() if text}
    if spec.taints:
        node["spec"]["taints"] = list(spec.taints)
    return node


def status(
    machine: Machine, spec: NodeSpec, found: Sequence[Finding], images: Sequence[Image], old: Obj, now: datetime
) -> Obj:
    """What the agent says of the Node; conditions keep their transition times from the status `old`."""
    return {
        "capacity": {name: quantity(name, amount) for name, amount in machine.capacity.items()},
        "allocatable": {name: quantity(name, amount) for name, amount in machine.allocatable.items()},
        "conditions": conditions(found, old, now),
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


def conditions(found: Sequence[Finding], old: Obj, now: datetime) -> list[Obj]:
    """What was found, and Ready, which no machine is whose runtime does not answer."""
    before = {condition["type"]: condition for condition in old.get("conditions") or ()}
    down = next((one for one in found if one.type == RUNTIME and one.trouble), None)
    ready = Finding("Ready", True, "KubeletReady", "kubelet is posting ready status")
    if down is not None:
        ready = Finding("Ready", False, "KubeletNotReady", down.message)
    return [_condition(one, before.get(one.type), now) for one in (*found, ready)]


def _condition(finding: Finding, old: Obj | None, now: datetime) -> Obj:
    status_ = {True: "True", False: "False", None: "Unknown"}[finding.trouble]
    changed = old is None or old.get("status") != status_
    return {
        "type": finding.type,
        "status": status_,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now) if changed or old is None else old.get("lastTransitionTime"),
        "reason": finding.reason,
        "message": finding.message,
    }


def patch(status_: Obj) -> Obj:
    """The strategic merge patch that makes a Node say `status_`; conditions of other types are others' to write."""
    return {"status": {**status_, "addresses": [*status_["addresses"], {"$patch": "replace"}]}}


def significant(status_: Obj) -> Obj:
    """A status without what changes on every look: what makes a report due before its time."""
    plain = [
        {field: value for field, value in condition.items() if field != "lastHeartbeatTime"}
        for condition in status_["conditions"]
    ]
    return {**status_, "conditions": plain}


def announcement(before: Finding | None, now: Finding) -> tuple[str, str, str] | None:
    """The event (type, reason, message) that a change is worth: an end of trouble, or a beginning."""
    was = before is not None and before.trouble
    if now.trouble:
        return None if was else ("Warning", _EVENTS.get((now.type, True), now.reason), now.message)
    return ("Normal", _EVENTS.get((now.type, False), now.reason), now.message) if was and now.trouble is False else None


# The kubelet's words for what it tells of its Node.
_EVENTS = {
    ("MemoryPressure", True): "NodeHasInsufficientMemory",
    ("MemoryPressure", False): "NodeHasSufficientMemory",
    ("DiskPressure", True): "NodeHasDiskPressure",
    ("DiskPressure", False): "NodeHasNoDiskPressure",
    ("PIDPressure", True): "NodeHasInsufficientPID",
    ("PIDPressure", False): "NodeHasSufficientPID",
}

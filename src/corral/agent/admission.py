"""Whether this machine takes a pod that was bound to it. Pure; reasons and words are the kubelet's.

The scheduler has judged already; this catches what it could not know (two schedulers, a pod bound by hand, a machine
that shrank). A pod that already runs here is never judged again.
"""

from collections.abc import Iterable, Mapping

from corral.agent.podstate.model import Rejection
from corral.kinds.accelerators import with_gpu_milli
from corral.kinds.podspec import host_ports, pod_requests
from corral.kinds.types import Obj

_OPERATORS = {
    "In": lambda value, values: value in values,
    "NotIn": lambda value, values: value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
    "Gt": lambda value, values: value is not None and int(value) > int(values[0]),
    "Lt": lambda value, values: value is not None and int(value) < int(values[0]),
}


def admit(
    pod: Obj, others: Iterable[Obj], labels: Mapping[str, str], allocatable: Mapping[str, int]
) -> Rejection | None:
    """Why `pod` cannot be taken beside the `others` that are here and not ended, or None."""
    others = list(others)
    if not matches_node(pod, labels):
        return Rejection(
            "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        )
    os_name = (pod["spec"].get("os") or {}).get("name")
    if os_name not in (None, "", "linux"):
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    taken = {(port.ip, port.protocol, port.port) for other in others for port in host_ports(other)}
    for port in host_ports(pod):
        for ip, protocol, number in taken:
            same = port.ip == ip or "0.0.0.0" in (port.ip, ip)
            if (protocol, number) == (port.protocol, port.port) and same:
                said = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                return Rejection("NodePorts", said)
    return _room(pod, others, with_gpu_milli(allocatable))


def _room(pod: Obj, others: list[Obj], allocatable: Mapping[str, int]) -> Rejection | None:
    used: dict[str, int] = {"pods": len(others)}
    for other in others:
        for name, amount in pod_requests(other).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in {"pods": 1, **pod_requests(pod)}.items():
        have = allocatable.get(name, 0)
        if amount and used.get(name, 0) + amount > have:
            said = f"requested: {amount}, used: {used.get(name, 0)}, capacity: {have}"
            return Rejection(f"OutOf{name}", f"Node didn't have enough resource: {name}, {said}")
    return None


def matches_node(pod: Obj, labels: Mapping[str, str]) -> bool:
    """nodeSelector and required node affinity against the machine's labels."""
    for name, value in (pod["spec"].get("nodeSelector") or {}).items():
        if labels.get(name) != value:
            return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, labels) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Obj, labels: Mapping[str, str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    name = labels.get("kubernetes.io/hostname", "")
    return all(_matches(found, labels.get(found["key"])) for found in expressions) and all(
        _matches(found, name) for found in fields if found.get("key") == "metadata.name"
    )


def _matches(requirement: Obj, value: str | None) -> bool:
    operator = _OPERATORS.get(requirement.get("operator", ""))
    try:
        return operator is not None and bool(operator(value, requirement.get("values") or []))
    except (ValueError, IndexError):
        return False

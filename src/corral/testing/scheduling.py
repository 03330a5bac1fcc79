"""Builders of Nodes and pods for scheduling: in tests, benchmarks and simulations."""

from collections.abc import Mapping, Sequence

from corral.kinds.types import Obj


def node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    labels: Mapping[str, str] | None = None,
    taints: Sequence[str] = (),
    unschedulable: bool = False,
    extra: Mapping[str, str] | None = None,
    ready: str = "True",
) -> Obj:
    """A Node; a taint is written `key=value:Effect`, `extra` are further allocatable amounts."""
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": [_taint(text) for text in taints], "unschedulable": unschedulable},
        "status": {
            "allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **(extra or {})},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def _taint(text: str) -> Obj:
    key_value, _, effect = text.partition(":")
    key, _, value = key_value.partition("=")
    return {"key": key, "value": value, "effect": effect}


def pod(
    name: str,
    *,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    cpu: str = "",
    memory: str = "",
    node_name: str = "",
    priority: int = 0,
    host_ports: Sequence[int] = (),
    requests: Mapping[str, str] | None = None,
    **spec: object,
) -> Obj:
    """A pod with one container; further keywords are fields of its spec."""
    asked = {**({"cpu": cpu} if cpu else {}), **({"memory": memory} if memory else {}), **(requests or {})}
    container = {
        "name": "main",
        "image": "host",
        "resources": {"requests": asked},
        "ports": [{"containerPort": port, "hostPort": port, "protocol": "TCP"} for port in host_ports],
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            **({"labels": dict(labels)} if labels else {}),
        },
        "spec": {
            "containers": [container],
            **({"nodeName": node_name} if node_name else {}),
            **({"priority": priority} if priority else {}),
            **spec,
        },
        "status": {"phase": "Pending"},
    }

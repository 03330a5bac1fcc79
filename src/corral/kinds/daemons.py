"""Whether a DaemonSet's pod belongs on a machine. Pure."""

from typing import Final

from corral.kinds.selectors import NodeSelector
from corral.kinds.taints import read_taints, read_tolerations
from corral.kinds.types import Obj

_TOLERATED: Final = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
"""Taints that every daemon bears (Kubernetes' AddOrUpdateDaemonPodTolerations)."""
_HOST_NETWORK: Final = ("node.kubernetes.io/network-unavailable", "NoSchedule")


def tolerations(spec: Obj) -> list[Obj]:
    """The tolerations of a daemon with the pod spec `spec`: its own, and those that every daemon has."""
    pairs = [*_TOLERATED, _HOST_NETWORK] if spec.get("hostNetwork") else list(_TOLERATED)
    own = list(spec.get("tolerations") or ())
    standard: list[Obj] = [{"key": key, "operator": "Exists", "effect": effect} for key, effect in pairs]
    return [*own, *(toleration for toleration in standard if toleration not in own)]


def pinned(affinity: Obj | None, machine: str) -> Obj:
    """`affinity` narrowed to one machine, so that the scheduler binds the pod there and nowhere else."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [machine]}]}
    node = dict((affinity or {}).get("nodeAffinity") or {})
    # The template's own terms were checked when the machine was chosen.
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    return {**(affinity or {}), "nodeAffinity": node}


def pinned_to(pod: Obj) -> str:
    """The machine that a daemon is bound or pinned to; empty if none."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = node.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In":
                return str(field["values"][0])
    return ""


def belongs(spec: Obj, node: Obj) -> tuple[bool, bool]:
    """Whether a daemon with the pod spec `spec` should start on `node`, and whether one there may stay."""
    name = node["metadata"]["name"]
    labels = node["metadata"].get("labels") or {}
    if spec.get("nodeName") not in (None, "", name):
        return False, False
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False, False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not NodeSelector.from_object(required).matches(labels, name):
        return False, False
    held = read_tolerations({"tolerations": tolerations(spec)})
    refused = {taint.effect for taint in read_taints(node) if not any(one.tolerates(taint) for one in held)}
    return not refused & {"NoSchedule", "NoExecute"}, "NoExecute" not in refused

"""What is simulated: machines and pods as plain API objects, wherever they come from. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from corral.kinds.owners import controller_of
from corral.kinds.podspec import is_terminal
from corral.kinds.types import Key, Obj

_HASH = "pod-template-hash"
MIRROR = "kubernetes.io/config.mirror"
"""Annotation of pods that a machine started by itself."""


class Span(NamedTuple):
    """When a pod asks for a machine, and how long it then runs, in seconds; None: it does not end."""

    start: float
    duration: float | None


@dataclass(frozen=True)
class Scenario:
    """A cell as data. A pod with `spec.nodeName` is placed already; the order of `pods` is that of arrival."""

    machines: Sequence[Obj] = ()
    pods: Sequence[Obj] = ()
    context: Sequence[Obj] = ()
    """What else placement looks at: objects of `corral.scheduler.simulator.context.KINDS`."""
    spans: Mapping[Key, Span] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """What a person should know of how this was read."""

    def __add__(self, other: "Scenario") -> "Scenario":
        """Both together."""
        return Scenario(
            (*self.machines, *other.machines),
            (*self.pods, *other.pods),
            (*self.context, *other.context),
            {**self.spans, **other.spans},
            (*self.notes, *other.notes),
        )


def asks(pod: Obj) -> bool:
    """Whether the pod has or wants a machine: it has not ended, is not about to, and no gate holds it back."""
    gates = (pod.get("spec") or {}).get("schedulingGates")
    return not (is_terminal(pod) or pod["metadata"].get("deletionTimestamp") or gates)


def without_volumes(pod: Obj) -> Obj:
    """The pod as if it used no claims, for machines that its volumes know nothing of."""
    spec = pod.get("spec") or {}
    return {**pod, "spec": {**spec, "volumes": []}} if spec.get("volumes") else pod


def workload(pod: Obj) -> str:
    """What a person calls the thing that the pod is a part of: its Deployment, Job ..., or the pod itself."""
    metadata = pod["metadata"]
    owner = controller_of(pod)
    if owner is None:
        return str(metadata.get("generateName", "").rstrip("-") or metadata["name"])
    name = str(owner["name"])
    made_of = (metadata.get("labels") or {}).get(_HASH)
    return name.removesuffix(f"-{made_of}") if owner.get("kind") == "ReplicaSet" and made_of else name


def belongs_to_machine(pod: Obj) -> bool:
    """Whether the pod is of one machine and ends with it: a DaemonSet's, or one that the machine itself started."""
    owner = controller_of(pod)
    annotations = pod["metadata"].get("annotations") or {}
    return MIRROR in annotations or (owner is not None and owner.get("kind") in ("DaemonSet", "Node"))

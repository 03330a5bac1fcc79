"""A scenario from API objects: what `kubectl get nodes,pods -A -o yaml` says, and manifests of workloads. Pure.

A workload stands for the pods that it wants and that are not among the objects already. A pod that names a
PriorityClass but no priority gets that of the class, from the objects or from those that every cell has. Objects are
read as the API server reads them, so that a field of the wrong type is refused in its words; of each only what
placement looks at is kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

from corral.base.errors import CorralError
from corral.kinds.owners import controller_of
from corral.kinds.registry import Registry
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.scheduler.simulator import context
from corral.scheduler.simulator.bands import PRIORITY_CLASSES
from corral.scheduler.simulator.scenario import Scenario
from corral.scheduler.trim import trim_node, trim_pod

RESOURCES = (*context.RESOURCES, NODES, PODS)
"""What a scenario is made of."""
_WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController", "Job")
_USED = tuple(dict.fromkeys((*(resource.kind for resource in RESOURCES), *_WORKLOADS, "PriorityClass")))
_KEPT = ("creationTimestamp", "generateName", "ownerReferences")
_MIRROR = "kubernetes.io/config.mirror"


def read(objects: Iterable[Obj], source: str) -> Scenario:
    """The scenario that `objects` (lists are opened) describe; `source` is what errors call them.

    Raises:
        CorralError: an object has no kind or name, or a field of the wrong type.
    """
    by_kind: dict[str, list[Obj]] = {}
    for obj in _flat(objects, source):
        by_kind.setdefault(obj["kind"], []).append(obj)
    notes = [_left_out(kind, len(found), source) for kind, found in by_kind.items() if kind not in _USED]
    found = {kind: [_checked(obj, source) for obj in by_kind.get(kind, ())] for kind in _USED}
    classes = {**PRIORITY_CLASSES, **{_name(one): one.get("value") or 0 for one in found["PriorityClass"]}}
    pods = [*found["Pod"], *_missing([obj for kind in _WORKLOADS for obj in found[kind]], found["Pod"])]
    # Sorting is stable: of what arrived at the same time, or has no time, the order is that of the objects.
    pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or "~"))
    return Scenario(
        machines=[trim_node(node) for node in found["Node"]],
        pods=[_pod(pod, classes, source) for pod in pods],
        context=[context.trim(obj) for kind in _USED if kind in context.KINDS for obj in found[kind]],
        notes=notes,
    )


def write(scenario: Scenario) -> Obj:
    """One `List` of everything; `read` gives the same scenario back."""
    return {"apiVersion": "v1", "kind": "List", "items": [*scenario.context, *scenario.machines, *scenario.pods]}


def _flat(objects: Iterable[Obj], source: str) -> Iterator[Obj]:
    for number, obj in enumerate(objects, 1):
        kind = obj.get("kind") if isinstance(obj, dict) else None
        if not isinstance(kind, str) or not kind:
            raise CorralError(
                f"{source}: object {number} has no kind", "write API objects: apiVersion, kind, metadata ..."
            )
        items = obj.get("items")
        if kind.endswith("List") and isinstance(items, list | None):
            # The items of a typed list leave their kind to it.
            told = {} if kind == "List" else {"apiVersion": obj.get("apiVersion"), "kind": kind.removesuffix("List")}
            yield from _flat(({**told, **item} if isinstance(item, dict) else item for item in items or ()), source)
            continue
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
            raise CorralError(f"{source}: object {number}, a {kind}, has no name", "give it a metadata.name")
        yield obj


def _left_out(kind: str, count: int, source: str) -> str:
    return f"{source}: {count} {kind} left out: they are no machines, pods or workloads that this understands"


@cache
def _registry() -> Registry:
    return Registry.builtin()


def _checked(obj: Obj, source: str) -> Obj:
    """The object with the fields of its kind only, and with defaults."""
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    if group == COSCHEDULING_POD_GROUPS.group:
        return obj  # a custom resource
    kind = _registry().by_kind(group, version, obj["kind"])
    if kind is None:
        known = next(one for one in _registry().kinds() if one.resource.kind == obj["kind"])
        raise CorralError(
            f"{source}: {obj['kind']} {_name(obj)!r} has the apiVersion {obj.get('apiVersion')!r}",
            f"write apiVersion: {known.resource.api_version}",
        )
    try:
        kind.schema.prune(obj)
        kind.schema.default(obj)
    except StatusError as error:
        raise CorralError(f"{source}: {obj['kind']} {_name(obj)!r}: {error.message}", "correct the field") from error
    return obj


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def _pod(pod: Obj, classes: Mapping[str, int], source: str) -> Obj:
    spec, metadata = pod.setdefault("spec", {}), pod["metadata"]
    metadata.setdefault("namespace", "default")
    name = spec.get("priorityClassName")
    if name and spec.get("priority") is None:
        if name not in classes:
            remedy = "add the PriorityClass to the input, or give the pod a priority"
            raise CorralError(
                f"{source}: Pod {_name(pod)!r} names the PriorityClass {name!r}, which is not there", remedy
            )
        spec["priority"] = classes[name]
    kept = trim_pod(pod)
    kept["metadata"] |= {field: metadata[field] for field in _KEPT if field in metadata}
    if _MIRROR in (metadata.get("annotations") or {}):
        kept["metadata"]["annotations"] = {_MIRROR: "true"}
    return kept


def _missing(workloads: Sequence[Obj], pods: Iterable[Obj]) -> Iterator[Obj]:
    """The pods that the workloads want and that are not there."""
    makers = {(obj["kind"], _place(obj)): controller_of(obj) for obj in workloads}
    there: Counter[tuple[str, tuple[str, str]]] = Counter()
    for pod in pods:
        owner, namespace = controller_of(pod), _place(pod)[0]
        while owner is not None:
            maker = (str(owner.get("kind")), (namespace, str(owner.get("name"))))
            there[maker] += 1
            owner = makers.get(maker)
    for obj in workloads:
        # What another workload made is counted there.
        if controller_of(obj) is None:
            key = (obj["kind"], _place(obj))
            yield from (_from_template(obj, number) for number in range(there[key], _wanted(obj)))


def _place(obj: Obj) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "default", _name(obj)


def _wanted(obj: Obj) -> int:
    spec = obj.get("spec") or {}
    if obj["kind"] != "Job":
        replicas = spec.get("replicas")
        return 1 if replicas is None else int(replicas)
    at_once, completions = spec.get("parallelism"), spec.get("completions")
    at_once = 1 if at_once is None else int(at_once)
    return 0 if spec.get("suspend") else at_once if completions is None else min(at_once, int(completions))


def _from_template(obj: Obj, number: int) -> Obj:
    template = (obj.get("spec") or {}).get("template") or {}
    namespace, name = _place(obj)
    owner = {"apiVersion": obj.get("apiVersion"), "kind": obj["kind"], "name": name, "uid": "", "controller": True}
    labels = (template.get("metadata") or {}).get("labels") or {}
    metadata = {"name": f"{name}-{number}", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(template.get("spec") or {})}

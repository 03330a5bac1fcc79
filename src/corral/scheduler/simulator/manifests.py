"""A scenario from API objects: what `kubectl get nodes,pods -A -o json` says, and manifests of workloads. Pure.

A workload stands for the pods that it wants and that are not among the objects already. A pod that names a
PriorityClass but no priority gets that of the class, from the objects or from those that every cell has. Objects are
read as the API server reads them, so that a field of the wrong type is refused in its words; of each only what
placement looks at is kept. An object that is there twice counts as it is the second time.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TypeAlias

from corral.base.errors import CorralError
from corral.kinds.daemons import pinned_to
from corral.kinds.owners import controller_of
from corral.kinds.podgroups import group_of_job, native_group
from corral.kinds.registry import Registry
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, JOBS, NODES, POD_GROUPS, PODS, PRIORITY_CLASSES
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler import expand
from corral.scheduler.simulator import context
from corral.scheduler.simulator.bands import PRIORITIES
from corral.scheduler.simulator.scenario import MIRROR, Scenario
from corral.scheduler.trim import trim_node, trim_pod

RESOURCES = (*context.RESOURCES, PRIORITY_CLASSES, NODES, PODS)
"""What a scenario is made of, but for workloads that have no pods yet."""
_WORKLOADS = tuple(resource.kind for resource in expand.WORKLOADS.values() if resource is not PODS)
_USED = tuple(dict.fromkeys((*(one.kind for one in RESOURCES), *_WORKLOADS)))
_KEPT = ("creationTimestamp", "generateName", "ownerReferences")

_Maker: TypeAlias = tuple[str, Key]
"""What made a pod: a kind, and the key of the object."""


def read(objects: Iterable[tuple[Obj, str]]) -> Scenario:
    """The scenario that `objects` describe, each with what errors call its source.

    Raises:
        CorralError: an object has no name, a field of the wrong type, or a PriorityClass that is not there.
    """
    latest: dict[tuple[str, str, Key], Obj] = {}
    left_out: Counter[str] = Counter()
    for obj, source in objects:
        if obj["kind"] in _USED:
            checked = _checked(obj, source)
            latest[checked["kind"], checked["apiVersion"], key_of(checked)] = checked
        else:
            left_out[obj["kind"]] += 1
    by_kind: dict[str, list[Obj]] = {kind: [] for kind in _USED}
    for obj in latest.values():
        by_kind[obj["kind"]].append(obj)
    classes = {**PRIORITIES, **{_name(one): one.get("value") or 0 for one in by_kind[PRIORITY_CLASSES.kind]}}
    pods = [_pod(pod, classes) for pod in by_kind[PODS.kind]]
    workloads = [obj for kind in _WORKLOADS for obj in by_kind[kind]]
    pods += _missing(workloads, pods, by_kind[NODES.kind], classes)
    # Groups that the Jobs' controller would make come first: one that is there says otherwise.
    own = [found for job in by_kind[JOBS.kind] if (found := group_of_job(job)) is not None]
    by_kind[POD_GROUPS.kind][:0] = [native_group(gang, minimum) for gang, minimum in own]
    # Sorting is stable: of what arrived at the same time, or has no time, the order is that of the objects.
    pods.sort(key=lambda pod: str(pod["metadata"].get("creationTimestamp") or "~"))
    return Scenario(
        machines=[trim_node(node) for node in by_kind[NODES.kind]],
        pods=pods,
        context=[context.trim(obj) for kind in _USED if kind in context.KINDS for obj in by_kind[kind]],
        notes=[f"left out {count} {kind}: no machine, pod or known workload" for kind, count in left_out.items()],
    )


def write(scenario: Scenario) -> Obj:
    """One `List` of everything; `read` gives the same scenario back."""
    return {"apiVersion": "v1", "kind": "List", "items": [*scenario.context, *scenario.machines, *scenario.pods]}


@cache
def _registry() -> Registry:
    return Registry.builtin()


def _checked(obj: Obj, source: str) -> Obj:
    """The object with the fields of its kind only, and with defaults."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        raise CorralError(f"{source}: a {obj['kind']} has no name", "give it a metadata.name")
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    if group == COSCHEDULING_POD_GROUPS.group:
        metadata["namespace"] = metadata.get("namespace") or "default"
        return obj  # a custom resource: its schema is the cell's
    kind = _registry().by_kind(group, version, obj["kind"])
    if kind is None:
        known = next(one for one in _registry().kinds() if one.resource.kind == obj["kind"])
        reason = f"{source}: {obj['kind']} {_name(obj)!r} has the apiVersion {obj.get('apiVersion')!r}"
        raise CorralError(reason, f"write apiVersion: {known.resource.api_version}")
    try:
        kind.schema.prune(obj)
        kind.schema.default(obj)
    except StatusError as error:
        raise CorralError(f"{source}: {obj['kind']} {_name(obj)!r}: {error.message}", "correct the field") from error
    if kind.resource.namespaced:
        metadata["namespace"] = metadata.get("namespace") or "default"
    return obj


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def _pod(pod: Obj, classes: Mapping[str, int]) -> Obj:
    """What is kept of a pod, with its priority."""
    spec, metadata = pod.setdefault("spec", {}), pod["metadata"]
    name = spec.get("priorityClassName")
    if name and spec.get("priority") is None:
        if name not in classes:
            called = metadata.get("name") or metadata["generateName"]
            remedy = "add the PriorityClass to the input, or give the pod a priority"
            raise CorralError(f"pod {called!r} names the PriorityClass {name!r}, which is not there", remedy)
        spec["priority"] = classes[name]
    kept = trim_pod(pod)
    kept["metadata"] |= {field: metadata[field] for field in _KEPT if field in metadata}
    if MIRROR in (metadata.get("annotations") or {}):
        kept["metadata"]["annotations"] = {**(kept["metadata"].get("annotations") or {}), MIRROR: "true"}
    return kept


def _missing(
    workloads: Sequence[Obj], pods: Iterable[Obj], nodes: Sequence[Obj], classes: Mapping[str, int]
) -> Iterator[Obj]:
    """The pods that the workloads want and that are not there."""
    makers = {_maker(obj): controller_of(obj) for obj in workloads}
    there: dict[_Maker, list[Obj]] = {}
    for pod in pods:
        owner, namespace = controller_of(pod), pod["metadata"]["namespace"]
        while owner is not None:
            maker = (str(owner.get("kind")), Key(namespace, str(owner.get("name"))))
            there.setdefault(maker, []).append(pod)
            owner = makers.get(maker)
    for obj in workloads:
        # What another workload made is counted there; what is suspended wants nothing.
        if controller_of(obj) is None and not (obj.get("spec") or {}).get("suspend"):
            yield from _wanted(obj, there.get(_maker(obj), []), nodes, classes)


def _maker(obj: Obj) -> _Maker:
    return obj["kind"], Key(obj["metadata"]["namespace"], _name(obj))


def _wanted(obj: Obj, there: Sequence[Obj], nodes: Sequence[Obj], classes: Mapping[str, int]) -> Iterator[Obj]:
    obj["metadata"].setdefault("uid", "")
    model = _pod(expand.model(obj), classes)
    metadata = {"generateName": f"{_name(obj)}-", **model["metadata"]}
    machines = {pinned_to(pod) for pod in there}
    if obj["kind"] == "DaemonSet":
        nodes, there = [node for node in nodes if _name(node) not in machines], ()
    for name, pod in islice(expand.pods(obj, model, nodes), len(there), None):
        yield {**pod, "metadata": {**metadata, **pod["metadata"], "name": name}}

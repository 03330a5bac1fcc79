"""Kueue's v1beta1 and v1beta2 (kubernetes-sigs/kueue, apis/kueue/v1beta1/*_conversion.go): which fields changed names.

Objects are stored as v1beta2. A ClusterQueue's list of check names became rules by name, and a Workload's class name
and source became a reference.
"""

from collections.abc import Callable, Mapping
from typing import Final

from corral.kinds.types import Obj

GROUP: Final = "kueue.x-k8s.io"
_SOURCES: Final = {
    "kueue.x-k8s.io/workloadpriorityclass": ("kueue.x-k8s.io", "WorkloadPriorityClass"),
    "scheduling.k8s.io/priorityclass": ("scheduling.k8s.io", "PriorityClass"),
}
_BY_REFERENCE: Final = {reference: source for source, reference in _SOURCES.items()}


def _renamed(part: Obj | None, old: str, new: str) -> Obj:
    return {new if name == old else name: value for name, value in (part or {}).items()}


def _with(obj: Obj, **parts: Obj) -> Obj:
    """`obj` with other parts; what is empty and was not there stays away."""
    return {**obj, **{name: part for name, part in parts.items() if part or name in obj}}


def _queue_up(obj: Obj) -> Obj:
    spec = _renamed(obj.get("spec"), "cohort", "cohortName")
    names = spec.pop("admissionChecks", None)
    if names:
        spec["admissionChecksStrategy"] = {"admissionChecks": [{"name": name} for name in names]}
    fungibility = spec.get("flavorFungibility")
    if fungibility:
        old = {"Borrow": "MayStopSearch", "Preempt": "MayStopSearch"}
        spec["flavorFungibility"] = {field: old.get(value, value) for field, value in fungibility.items()}
    return _with(obj, spec=spec)


def _queue_down(obj: Obj) -> Obj:
    return _with(obj, spec=_renamed(obj.get("spec"), "cohortName", "cohort"))


def _local_up(obj: Obj) -> Obj:
    return _with(obj, status=_renamed(obj.get("status"), "flavorUsage", "flavorsUsage"))


def _local_down(obj: Obj) -> Obj:
    return _with(obj, status=_renamed(obj.get("status"), "flavorsUsage", "flavorUsage"))


def _workload_up(obj: Obj) -> Obj:
    spec = dict(obj.get("spec") or {})
    name, source = spec.pop("priorityClassName", ""), spec.pop("priorityClassSource", "")
    if name and source in _SOURCES:
        group, kind = _SOURCES[source]
        spec["priorityClassRef"] = {"group": group, "kind": kind, "name": name}
    past = ("accumulatedPastExexcutionTimeSeconds", "accumulatedPastExecutionTimeSeconds")
    return _with(obj, spec=spec, status=_renamed(obj.get("status"), *past))


def _workload_down(obj: Obj) -> Obj:
    spec = dict(obj.get("spec") or {})
    reference = spec.pop("priorityClassRef", None)
    source = _BY_REFERENCE.get((reference["group"], reference["kind"])) if reference else None
    if reference and source:
        spec |= {"priorityClassName": reference["name"], "priorityClassSource": source}
    past = ("accumulatedPastExecutionTimeSeconds", "accumulatedPastExexcutionTimeSeconds")
    return _with(obj, spec=spec, status=_renamed(obj.get("status"), *past))


CONVERTERS: Final[Mapping[tuple[str, str, str], Callable[[Obj], Obj]]] = {
    ("ClusterQueue", "v1beta1", "v1beta2"): _queue_up,
    ("ClusterQueue", "v1beta2", "v1beta1"): _queue_down,
    ("LocalQueue", "v1beta1", "v1beta2"): _local_up,
    ("LocalQueue", "v1beta2", "v1beta1"): _local_down,
    ("Workload", "v1beta1", "v1beta2"): _workload_up,
    ("Workload", "v1beta2", "v1beta1"): _workload_down,
}
"""By kind, version and version wanted; the other kinds are spelled alike in both."""

"""Between the versions of a kind, and between the version that is asked for and the one that is stored.

Most versions differ only in how `apiVersion` is spelled (CRDs with the conversion strategy None always do). The two
that differ in fields are Events, which the core group and events.k8s.io share, and HorizontalPodAutoscaler v1; queues
have a module of their own.
"""

from collections.abc import Callable

from corral.apiserver import queue_versions
from corral.kinds.types import Obj, Resource

# core/v1 name, events.k8s.io/v1 name
_EVENT_FIELDS = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)
_TO_EVENTS = dict(_EVENT_FIELDS)
_TO_CORE = {new: old for old, new in _EVENT_FIELDS}


def home(resource: Resource, stored_as: str) -> Resource:
    """What objects of `resource` are stored as; `stored_as` is an `apiVersion`, empty for its own."""
    if stored_as in ("", resource.api_version):
        return resource
    group, _, version = stored_as.rpartition("/")
    return Resource(group, version, resource.plural, resource.kind, resource.namespaced)


def is_respelling(source: Resource, target: Resource) -> bool:
    """Whether the two versions differ in nothing but `apiVersion`."""
    return source.group == target.group and _converter(source, target) is None


def convert(obj: Obj, source: Resource, target: Resource) -> Obj:
    """`obj` in the version `target`; the given object may be changed."""
    converter = _converter(source, target)
    if converter is not None:
        obj = converter(obj)
    obj["apiVersion"] = target.api_version
    return obj


def _converter(source: Resource, target: Resource) -> Callable[[Obj], Obj] | None:
    if source.kind == "Event" and source.group != target.group:
        return _event_to_core if target.group == "" else _event_from_core
    if source.group == "autoscaling" and source.kind == "HorizontalPodAutoscaler":
        if (source.version, target.version) == ("v2", "v1"):
            return _scaler_to_v1
        if (source.version, target.version) == ("v1", "v2"):
            return _scaler_to_v2
    if source.group == queue_versions.GROUP:
        return queue_versions.CONVERTERS.get((source.kind, source.version, target.version))
    return None


def _event_to_core(obj: Obj) -> Obj:
    return {_TO_CORE.get(field, field): value for field, value in obj.items()}


def _event_from_core(obj: Obj) -> Obj:
    return {_TO_EVENTS.get(field, field): value for field, value in obj.items()}


def _scaler_to_v1(obj: Obj) -> Obj:
    spec = dict(obj.get("spec") or {})
    for metric in spec.pop("metrics", None) or ():
        if _is_cpu_utilization(metric.get("resource"), metric.get("type")):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
    spec.pop("behavior", None)
    status = dict(obj.get("status") or {})
    for metric in status.pop("currentMetrics", None) or ():
        current = (metric.get("resource") or {}).get("current") or {}
        if metric.get("type") == "Resource" and "averageUtilization" in current:
            status["currentCPUUtilizationPercentage"] = current["averageUtilization"]
    status.pop("conditions", None)
    return {**obj, "spec": spec, **({"status": status} if status else {})}


def _is_cpu_utilization(resource: Obj | None, metric_type: str | None) -> bool:
    target = (resource or {}).get("target") or {}
    return metric_type == "Resource" and (resource or {}).get("name") == "cpu" and "averageUtilization" in target


def _scaler_to_v2(obj: Obj) -> Obj:
    spec = dict(obj.get("spec") or {})
    percentage = spec.pop("targetCPUUtilizationPercentage", None)
    if percentage is not None:
        target = {"type": "Utilization", "averageUtilization": percentage}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    status = dict(obj.get("status") or {})
    status.pop("currentCPUUtilizationPercentage", None)
    return {**obj, "spec": spec, **({"status": status} if status else {})}

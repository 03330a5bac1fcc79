"""Tables of what bounds, scales and groups pods: disruption budgets, quotas, autoscalers, pod groups."""

from typing import Any, Final

from corral.kinds import conditions
from corral.kinds.tables.printer import AGE, NAME, Printers, number, of_spec, of_status, printer, spec, status, text
from corral.kinds.tables.texts import NONE, UNKNOWN, UNSET, quantity_text
from corral.kinds.types import Obj


def _quota(quota: Obj, *, limits: bool) -> str:
    hard, used = status(quota).get("hard") or {}, status(quota).get("used") or {}
    return ", ".join(
        f"{name}: {quantity_text(used.get(name))}/{quantity_text(hard[name])}"
        for name in sorted(hard)
        if name.startswith("limits.") is limits
    )


# Where a metric of each type keeps its target and its current value.
_METRICS: Final = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_NAMED: Final = ("Resource", "ContainerResource")


def _metric(metric: Obj, current: Obj) -> str:
    """`current/target` of one metric, with the resource's name or `(avg)` where kubectl says so."""
    type_ = metric.get("type", "")
    field = _METRICS.get(type_)
    if field is None:
        return "<unknown type>"
    source, now = metric.get(field) or {}, (current.get(field) or {}).get("current") or {}
    target = source.get("target") or {}
    prefix = f"{source.get('name', '')}: " if type_ in _NAMED else ""
    if target.get("averageValue") is not None or type_ == "Pods":
        suffix = " (avg)" if type_ in ("External", "Object") else ""
        return f"{prefix}{_known(now.get('averageValue'))}/{quantity_text(target.get('averageValue'))}{suffix}"
    if type_ in _NAMED:
        used, wanted = now.get("averageUtilization"), target.get("averageUtilization")
        return f"{prefix}{UNKNOWN if used is None else f'{used}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"
    return f"{_known(now.get('value'))}/{quantity_text(target.get('value'))}"


def _known(quantity: Any) -> str:
    return UNKNOWN if quantity is None else quantity_text(quantity)


def _targets(autoscaler: Obj) -> str:
    metrics = spec(autoscaler).get("metrics") or _metrics_of_v1(autoscaler)
    current = status(autoscaler).get("currentMetrics") or _current_of_v1(autoscaler)
    said = [_metric(metric, current[i] if i < len(current) else {}) for i, metric in enumerate(metrics)]
    listed = ", ".join(said[:2]) or NONE
    return f"{listed} + {len(said) - 2} more..." if len(said) > 2 else listed


def _metrics_of_v1(autoscaler: Obj) -> list[Obj]:
    wanted = spec(autoscaler).get("targetCPUUtilizationPercentage")
    if wanted is None:
        return []
    return [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": wanted}}}]


def _current_of_v1(autoscaler: Obj) -> list[Obj]:
    used = status(autoscaler).get("currentCPUUtilizationPercentage")
    return [] if used is None else [{"type": "Resource", "resource": {"current": {"averageUtilization": used}}}]


def _policy(group: Obj) -> str:
    policy = spec(group).get("schedulingPolicy") or {}
    return next((title for name, title in (("gang", "Gang"), ("basic", "Basic")) if name in policy), NONE)


def _workload(group: Obj) -> str:
    reference = (spec(group).get("podGroupTemplateRef") or {}).get("workload") or {}
    return reference.get("workloadName") or NONE


def _scheduled(group: Obj) -> str:
    found = conditions.get(group, "PodGroupScheduled") or {}
    return str({"True": "Scheduled", "False": found.get("reason", "")}.get(found.get("status", ""), "Pending"))


def _scale_target(autoscaler: Obj) -> str:
    reference = spec(autoscaler).get("scaleTargetRef") or {}
    return f"{reference.get('kind', '')}/{reference.get('name', '')}"


def _allowed(field: str) -> Any:
    return lambda obj: "N/A" if spec(obj).get(field) is None else str(spec(obj)[field])


PRINTERS: Final[Printers] = {
    ("policy", "poddisruptionbudgets"): printer(
        NAME,
        text("Min Available", _allowed("minAvailable")),
        text("Max Unavailable", _allowed("maxUnavailable")),
        number("Allowed Disruptions", of_status("disruptionsAllowed")),
        AGE,
    ),
    ("", "resourcequotas"): printer(
        NAME,
        text("Request", lambda obj: _quota(obj, limits=False)),
        text("Limit", lambda obj: _quota(obj, limits=True)),
        AGE,
    ),
    ("autoscaling", "horizontalpodautoscalers"): printer(
        NAME,
        text("Reference", _scale_target),
        text("Targets", _targets),
        text("MinPods", lambda obj: str(of_spec("minReplicas", UNSET)(obj))),
        text("MaxPods", of_spec("maxReplicas", 0)),
        text("Replicas", of_status("currentReplicas")),
        AGE,
    ),
    ("scheduling.k8s.io", "podgroups"): printer(
        NAME, text("Policy", _policy), text("Workload", _workload), text("Status", _scheduled), AGE
    ),
}

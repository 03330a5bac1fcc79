"""Kinds that make pods (Kubernetes `pkg/apis/{apps,batch,policy}/validation`)."""

from collections.abc import Mapping
from typing import Any, Final

from corral.kinds.builtin.cron import cron_problem
from corral.kinds.builtin.rules_common import (
    check_label_selector,
    count_or_percent,
    is_zero,
    non_negative,
    selects,
)
from corral.kinds.builtin.rules_pods import check_template
from corral.kinds.schema.causes import forbidden, invalid, not_supported, required
from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import immutable

Spec = Mapping[str, Any]
_EMPTY_SELECTOR: Final = "empty selector is invalid for {}"
_MISMATCH: Final = "`selector` does not match template `labels`"
_SPEC_STATEFUL: Final = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_STATEFUL_MUTABLE: Final = frozenset(
    {
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    }
)


def _check_selected(spec: Spec, what: str) -> list[Cause]:
    """Selector and template of a kind that keeps pods running."""
    selector = spec.get("selector")
    causes = check_label_selector(selector, "spec.selector")
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        causes.append(invalid("spec.selector", selector, _EMPTY_SELECTOR.format(what)))
    template = spec.get("template")
    claims = [(claim.get("metadata") or {}).get("name", "") for claim in spec.get("volumeClaimTemplates") or ()]
    causes += check_template(template, "spec.template", claims)
    if template is None:
        return causes
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and not causes and not selects(selector, labels):
        causes.append(invalid("spec.template.metadata.labels", labels, _MISMATCH))
    return causes + _check_always(template, what)


def _check_always(template: Spec, what: str) -> list[Cause]:
    spec = template.get("spec") or {}
    causes: list[Cause] = []
    policy = spec.get("restartPolicy", "Always")
    if policy != "Always":
        causes.append(not_supported("spec.template.spec.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        why = f"activeDeadlineSeconds in {what} is not Supported"
        causes.append(forbidden("spec.template.spec.activeDeadlineSeconds", why))
    return causes


def check_deployment(obj: Obj, old: Obj | None) -> list[Cause]:
    """Deployment."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(
        spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"
    )
    causes += _check_selected(spec, "deployment")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and 0 <= deadline <= spec.get("minReadySeconds", 0):
        causes.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    causes += _check_rollout(spec.get("strategy") or {}, "spec.strategy", "Recreate")
    return causes + _same_selector(obj, old)


def _check_rollout(strategy: Spec, path: str, other: str) -> list[Cause]:
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") == other and rolling:
        why = f"may not be specified when strategy `type` is '{other}'"
        return [forbidden(f"{path}.rollingUpdate", why)]
    if strategy.get("type") != "RollingUpdate" or rolling is None:
        return []
    where = f"{path}.rollingUpdate"
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    causes: list[Cause] = []
    if unavailable is not None:
        causes += count_or_percent(unavailable, f"{where}.maxUnavailable", at_most_all=True)
    if surge is not None:
        causes += count_or_percent(surge, f"{where}.maxSurge")
    if not causes and is_zero(unavailable) and is_zero(surge):
        why = "may not be 0 when `maxSurge` is 0"
        causes.append(invalid(f"{where}.maxUnavailable", unavailable, why))
    return causes


def _same_selector(obj: Obj, old: Obj | None) -> list[Cause]:
    if old is None:
        return []
    now, before = (obj.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    return immutable(now, before, "spec.selector")


def check_replica_set(obj: Obj, old: Obj | None) -> list[Cause]:
    """ReplicaSet."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(spec, "spec", "replicas", "minReadySeconds")
    return causes + _check_selected(spec, "replicaset") + _same_selector(obj, old)


def check_replication_controller(obj: Obj, old: Obj | None) -> list[Cause]:
    """ReplicationController, whose selector is a plain map."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(spec, "spec", "replicas", "minReadySeconds")
    selector = spec.get("selector") or {}
    template = spec.get("template")
    if not selector:
        causes.append(required("spec.selector"))
    causes += check_template(template, "spec.template")
    if template is not None:
        labels = (template.get("metadata") or {}).get("labels") or {}
        if not selector.items() <= labels.items():
            causes.append(invalid("spec.template.metadata.labels", labels, _MISMATCH))
        causes += _check_always(template, "ReplicationController")
    return causes


def check_daemon_set(obj: Obj, old: Obj | None) -> list[Cause]:
    """DaemonSet."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit")
    causes += _check_selected(spec, "daemonset")
    causes += _check_rollout(spec.get("updateStrategy") or {}, "spec.updateStrategy", "")
    return causes + _same_selector(obj, old)


def check_stateful_set(obj: Obj, old: Obj | None) -> list[Cause]:
    """StatefulSet."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(spec, "spec", "replicas", "minReadySeconds", "revisionHistoryLimit")
    causes += _check_selected(spec, "statefulset")
    rolling = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}
    causes += non_negative(rolling, "spec.updateStrategy.rollingUpdate", "partition")
    causes += non_negative(spec.get("ordinals") or {}, "spec.ordinals", "start")
    if old is not None:
        now, before = obj.get("spec") or {}, old.get("spec") or {}
        fixed = (now.keys() | before.keys()) - _STATEFUL_MUTABLE
        if any(now.get(name) != before.get(name) for name in fixed):
            causes.append(forbidden("spec", _SPEC_STATEFUL))
    return causes


def check_job(obj: Obj, old: Obj | None) -> list[Cause]:
    """Job."""
    causes = check_job_spec(obj.get("spec") or {}, "spec")
    spec: Spec = obj.get("spec") or {}
    selector = spec.get("selector")
    causes += check_label_selector(selector, "spec.selector")
    template = spec.get("template") or {}
    if selector is None:
        causes.append(required("spec.selector"))
    elif not selects(selector, (template.get("metadata") or {}).get("labels") or {}):
        labels = (template.get("metadata") or {}).get("labels") or {}
        causes.append(invalid("spec.template.metadata.labels", labels, _MISMATCH))
    if len(obj["metadata"].get("name", "")) > 63 and spec.get("completionMode") == "Indexed":
        causes.append(invalid("metadata.name", obj["metadata"]["name"], "must be no more than 63 characters"))
    return causes + (_check_job_update(spec, old) if old is not None else [])


def check_job_spec(spec: Spec, path: str) -> list[Cause]:
    """The part of a Job that a CronJob's template has too."""
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    causes = non_negative(spec, path, *counts, "backoffLimitPerIndex", "maxFailedIndexes")
    template = spec.get("template")
    causes += check_template(template, f"{path}.template")
    policy = ((template or {}).get("spec") or {}).get("restartPolicy", "Always")
    if policy not in ("OnFailure", "Never"):
        causes.append(not_supported(f"{path}.template.spec.restartPolicy", policy, ("OnFailure", "Never")))
    if spec.get("completionMode") == "Indexed":
        if spec.get("completions") is None:
            causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
        if spec.get("parallelism", 1) > 100_000:
            causes.append(invalid(f"{path}.parallelism", spec["parallelism"], "must be less than or equal to 100000"))
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if spec.get(field) is not None:
                causes.append(invalid(f"{path}.{field}", spec[field], "requires indexed completion mode"))
    if spec.get("podFailurePolicy") is not None and policy != "Never":
        why = 'only "Never" is supported when podFailurePolicy is specified'
        causes.append(invalid(f"{path}.template.spec.restartPolicy", policy, why))
    return causes


def _check_job_update(spec: Spec, old: Obj) -> list[Cause]:
    before: Spec = old.get("spec") or {}
    causes: list[Cause] = []
    for field in (
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "successPolicy",
        "managedBy",
    ):
        causes += immutable(spec.get(field), before.get(field), f"spec.{field}")
    if spec.get("completions") != before.get("completions"):
        elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
        if not elastic:
            causes.append(invalid("spec.completions", spec.get("completions"), "field is immutable"))
    causes += _check_job_template(spec.get("template") or {}, before.get("template") or {}, old)
    return causes


def _check_job_template(template: Spec, before: Spec, old: Obj) -> list[Cause]:
    """Scheduling directives may change while a Job is suspended and has not started; the rest never."""
    if template == before:
        return []
    unstarted = (old.get("spec") or {}).get("suspend") and not (old.get("status") or {}).get("startTime")
    if not unstarted:
        return [invalid("spec.template", template, "field is immutable")]
    if _without_scheduling(template) != _without_scheduling(before):
        return [invalid("spec.template", template, "field is immutable")]
    return []


def _without_scheduling(template: Spec) -> Spec:
    movable = ("affinity", "nodeSelector", "tolerations", "schedulingGates")
    spec = {name: value for name, value in (template.get("spec") or {}).items() if name not in movable}
    spec["containers"] = [{**container, "resources": None} for container in spec.get("containers") or ()]
    return {"spec": spec}


def check_cron_job(obj: Obj, old: Obj | None) -> list[Cause]:
    """CronJob."""
    spec: Spec = obj.get("spec") or {}
    causes = non_negative(
        spec, "spec", "startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
    )
    schedule = spec.get("schedule", "")
    if schedule:
        if "TZ" in schedule:
            why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            causes.append(invalid("spec.schedule", schedule, why))
        elif problem := cron_problem(schedule):
            causes.append(invalid("spec.schedule", schedule, problem))
    template = spec.get("jobTemplate")
    if template is None:
        causes.append(required("spec.jobTemplate"))
    else:
        causes += check_job_spec(template.get("spec") or {}, "spec.jobTemplate.spec")
        if (template.get("spec") or {}).get("manualSelector"):
            why = "`manualSelector` is not supported in CronJobs"
            causes.append(forbidden("spec.jobTemplate.spec.manualSelector", why))
    if old is None and len(obj["metadata"].get("name", "")) > 52:
        causes.append(invalid("metadata.name", obj["metadata"]["name"], "must be no more than 52 characters"))
    return causes


def check_disruption_budget(obj: Obj, old: Obj | None) -> list[Cause]:
    """PodDisruptionBudget."""
    spec: Spec = obj.get("spec") or {}
    available, unavailable = spec.get("minAvailable"), spec.get("maxUnavailable")
    causes: list[Cause] = []
    if available is not None and unavailable is not None:
        causes.append(invalid("spec", dict(spec), "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", available), ("maxUnavailable", unavailable)):
        if value is not None:
            causes += count_or_percent(value, f"spec.{field}", at_most_all=True)
    return causes + check_label_selector(spec.get("selector"), "spec.selector")


def check_autoscaler(obj: Obj, old: Obj | None) -> list[Cause]:
    """HorizontalPodAutoscaler, both versions."""
    spec: Spec = obj.get("spec") or {}
    causes: list[Cause] = []
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    if least < 1:
        causes.append(invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if most < least:
        causes.append(invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    percentage = spec.get("targetCPUUtilizationPercentage")
    if percentage is not None and percentage < 1:
        causes.append(invalid("spec.targetCPUUtilizationPercentage", percentage, "must be greater than 0"))
    names = {"Resource": "resource", "Pods": "pods", "Object": "object", "External": "external"}
    for index, metric in enumerate(spec.get("metrics") or ()):
        field = names.get(metric.get("type", ""), "containerResource")
        if metric.get(field) is None:
            where = f"spec.metrics[{index}].{field}"
            causes.append(required(where, "must populate information for the given metric source"))
    return causes

"""Groups of pods that are scheduled together: Workload and PodGroup of scheduling.k8s.io, and how a pod names one."""

from collections.abc import Mapping
from typing import Any, Final

from corral.kinds.builtin.rules_common import named
from corral.kinds.schema.causes import invalid, required, too_many
from corral.kinds.status import Cause
from corral.kinds.types import Obj
from corral.kinds.validation import dns_label, dns_subdomain, immutable

_POLICIES: Final = ("basic", "gang")
_MOST_TEMPLATES: Final = 8
# Fields of feature gates of their own (WorkloadAwarePreemption, TopologyAwareWorkloadScheduling,
# DRAWorkloadResourceClaims), which a server with those gates off does not keep.
_DISABLED: Final = ("disruptionMode", "priority", "priorityClassName", "resourceClaims", "schedulingConstraints")


def drop_disabled(obj: Obj) -> None:
    """Forget what belongs to features that are off."""
    spec = obj.get("spec") or {}
    for holder in (spec, *(spec.get("podGroupTemplates") or ())):
        for name in _DISABLED:
            holder.pop(name, None)


def check_pod_group(obj: Obj, old: Obj | None) -> list[Cause]:
    """PodGroup: one policy; nothing of it changes."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    if old is not None:
        return immutable(spec, old.get("spec") or {}, "spec")
    causes = _check_policy(spec.get("schedulingPolicy") or {}, "spec.schedulingPolicy")
    reference = spec.get("podGroupTemplateRef")
    if reference is not None and not reference.get("workload"):
        causes.append(required("spec.podGroupTemplateRef.workload", "exactly one reference must be set"))
    return causes


def check_workload(obj: Obj, old: Obj | None) -> list[Cause]:
    """Workload: one to eight templates; nothing of it changes."""
    spec: Mapping[str, Any] = obj.get("spec") or {}
    if old is not None:
        return immutable(spec, old.get("spec") or {}, "spec")
    templates = spec.get("podGroupTemplates") or ()
    if not templates:
        return [required("spec.podGroupTemplates", "must have at least one item")]
    if len(templates) > _MOST_TEMPLATES:
        return [too_many("spec.podGroupTemplates", len(templates), _MOST_TEMPLATES)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, template in enumerate(templates):
        where = f"spec.podGroupTemplates[{index}]"
        causes += named(template.get("name", ""), f"{where}.name", dns_label, names)
        causes += _check_policy(template.get("schedulingPolicy") or {}, f"{where}.schedulingPolicy")
    return causes


def check_group_reference(reference: Mapping[str, Any] | None, path: str) -> list[Cause]:
    """A pod's `schedulingGroup`."""
    if reference is None:
        return []
    name = reference.get("podGroupName") or ""
    if not name:
        return [required(f"{path}.podGroupName", "exactly one field must be specified")]
    return [invalid(f"{path}.podGroupName", name, why) for why in dns_subdomain(name)]


def _check_policy(policy: Mapping[str, Any], path: str) -> list[Cause]:
    chosen = [name for name in _POLICIES if policy.get(name) is not None]
    if len(chosen) != 1:
        return [invalid(path, dict(policy), "must specify exactly one of: `basic`, `gang`")]
    count = (policy.get("gang") or {}).get("minCount", 1)
    return [] if count > 0 else [invalid(f"{path}.gang.minCount", count, "must be greater than 0")]

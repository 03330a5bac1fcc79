"""Pods: what only the server sets, what an update may change; what resizing and ephemeral containers may."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from corral.kinds.builtin.rules_pods import check_pod_spec
from corral.kinds.podspec import qos_class
from corral.kinds.schema.causes import forbidden, invalid
from corral.kinds.status import Cause
from corral.kinds.status import invalid as invalid_object
from corral.kinds.types import Obj

_UPDATE_WORDS: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_RESIZE_WORDS: Final = "only cpu and memory resources for regular containers are mutable"
_GATED_WORDS: Final = "only deletion is allowed, but found new scheduling gate"


def prepare_create(pod: Obj) -> None:
    """A new pod is Pending, has its class of service, and has run nothing."""
    spec = pod.get("spec") or {}
    spec.pop("ephemeralContainers", None)
    status: Obj = {"phase": "Pending", "qosClass": qos_class(pod)}
    if spec.get("schedulingGates"):
        status["conditions"] = [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }
        ]
    pod["status"] = status


def prepare_update(pod: Obj, old: Obj) -> None:
    """Ephemeral containers, sizes and the machine come through subresources of their own, so what an update of the pod
    itself may change is decided here; `check` runs for the subresources too.

    Raises:
        StatusError: 422, for a change that a pod does not allow.
    """
    before = (old.get("spec") or {}).get("ephemeralContainers")
    spec = pod.get("spec") or {}
    if before is None:
        spec.pop("ephemeralContainers", None)
    else:
        spec["ephemeralContainers"] = before
    causes = [] if spec == old.get("spec") else _check_update(spec, old.get("spec") or {})
    if causes:
        raise invalid_object("", "Pod", pod["metadata"].get("name", ""), causes)


def check(pod: Obj, old: Obj | None) -> list[Cause]:
    """A pod on its own and, on update, what has changed in it."""
    spec = pod.get("spec") or {}
    if old is None:
        causes = list(_causes(orjson.dumps(spec)))
        if spec.get("schedulingGates") and spec.get("nodeName"):
            causes.append(forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared"))
        return causes
    return check_pod_spec(spec, "spec") + _check_ephemeral(spec, old.get("spec") or {}) + _check_resized(pod, old)


@lru_cache(512)
def _causes(spec: bytes) -> Sequence[Cause]:
    """What is wrong with a new pod's spec; pods of one template bring the same one again and again."""
    return tuple(check_pod_spec(orjson.loads(spec), "spec"))


def _check_update(spec: Mapping[str, Any], before: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    if _without_mutable(spec, before) != _without_mutable(before, before):
        causes.append(forbidden("spec", _UPDATE_WORDS))
    causes += _check_deadline(spec.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds"))
    tolerations = spec.get("tolerations") or []
    for toleration in before.get("tolerations") or []:
        if not any(_same_toleration(toleration, other) for other in tolerations):
            causes.append(
                forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
            )
            break
    had = {gate.get("name") for gate in before.get("schedulingGates") or ()}
    for gate in spec.get("schedulingGates") or ():
        if gate.get("name") not in had:
            causes.append(forbidden("spec.schedulingGates", f"{_GATED_WORDS} '{gate.get('name')}'"))
    return causes


def _same_toleration(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    fields = ("key", "operator", "value", "effect")
    return all(first.get(field) == second.get(field) for field in fields)


def _check_deadline(now: int | None, before: int | None) -> list[Cause]:
    if before is None or now == before:
        return []
    if now is None:
        return [invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")]
    if now > before:
        why = "must be less than or equal to previous value"
        return [invalid("spec.activeDeadlineSeconds", now, why)]
    return []


def _without_mutable(spec: Mapping[str, Any], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The spec without what an update may change (what remains must be as before)."""
    rest = {
        name: value
        for name, value in spec.items()
        if name not in ("activeDeadlineSeconds", "tolerations", "schedulingGates", "containers", "initContainers")
    }
    for field in ("containers", "initContainers"):
        rest[field] = [
            {name: value for name, value in container.items() if name != "image"} for container in spec.get(field) or ()
        ]
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        rest["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):
        for name in ("nodeSelector", "affinity"):
            rest.pop(name, None)
    return rest


def _check_ephemeral(spec: Mapping[str, Any], before: Mapping[str, Any]) -> list[Cause]:
    """Ephemeral containers are added; those that are there stay as they are."""
    now = {entry.get("name"): entry for entry in spec.get("ephemeralContainers") or ()}
    causes: list[Cause] = []
    for index, entry in enumerate(before.get("ephemeralContainers") or ()):
        name = entry.get("name")
        if name not in now or now[name] != entry:
            done = "removed" if name not in now else "changed"
            why = f'existing ephemeral containers "{name}" may not be {done}'
            causes.append(forbidden(f"spec.ephemeralContainers[{index}]", why))
    return causes


def _check_resized(pod: Obj, old: Obj) -> list[Cause]:
    """A resize keeps the class of service and touches cpu and memory only."""
    now, before = _sizes(pod), _sizes(old)
    if now == before:
        return []
    causes: list[Cause] = []
    if qos_class(pod) != qos_class(old):
        causes.append(invalid("spec", "resources", "Pod QOS Class may not change as a result of resizing"))
    for index, (resources, had) in enumerate(zip(now, before, strict=False)):
        if _fixed(resources) != _fixed(had):
            causes.append(forbidden(f"spec.containers[{index}].resources", _RESIZE_WORDS))
    return causes


def _sizes(pod: Obj) -> list[Mapping[str, Any]]:
    return [container.get("resources") or {} for container in (pod.get("spec") or {}).get("containers") or ()]


def _fixed(resources: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {
        field: {name: value for name, value in (resources.get(field) or {}).items() if name not in ("cpu", "memory")}
        for field in ("limits", "requests")
    }
    return {**kept, "claims": resources.get("claims")}

"""RuntimeClass: what a runtime costs beside the containers, and which machines have it, are written into the pod."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import is_pod_create
from corral.kinds.kind import Kind
from corral.kinds.resources import RUNTIME_CLASSES
from corral.kinds.status import StatusError, forbidden
from corral.kinds.types import Obj


class RuntimeClass(Passive):
    """As kube-apiserver's plugin of that name."""

    name = "RuntimeClass"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec")
        if not isinstance(spec, dict):
            return
        found = _class_of(review, spec, lookup)
        overhead = ((found or {}).get("overhead") or {}).get("podFixed") or {}
        if spec.get("overhead") and spec["overhead"] != overhead:
            why = "Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            if not overhead:
                why = "Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise _refuse(review, f"pod rejected: {why}")
        if overhead:
            spec["overhead"] = overhead
        scheduling = (found or {}).get("scheduling") or {}
        if scheduling.get("nodeSelector"):
            _select(review, spec, scheduling["nodeSelector"])
        given = spec.get("tolerations") or []
        added = [one for one in scheduling.get("tolerations") or () if one not in given]
        if added:
            spec["tolerations"] = [*given, *added]


def _class_of(review: Review, spec: Obj, lookup: Lookup) -> Obj | None:
    name = spec.get("runtimeClassName")
    if not name:
        return None
    found = lookup.find(RUNTIME_CLASSES, "", name)
    if found is None:
        raise _refuse(review, f'pod rejected: RuntimeClass "{name}" not found')
    return found


def _select(review: Review, spec: Obj, wanted: dict[str, str]) -> None:
    given = spec.get("nodeSelector") or {}
    for key, value in wanted.items():
        if given.get(key, value) != value:
            why = f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}"
            raise _refuse(review, f"{why}; pod.spec.nodeSelector[{key}] = {given[key]}")
    spec["nodeSelector"] = {**given, **wanted}


def _refuse(review: Review, why: str) -> StatusError:
    return forbidden("", "pods", review.name, why)

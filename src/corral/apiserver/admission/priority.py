"""Priority: the name of a PriorityClass becomes a number that the scheduler compares."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import is_pod_create
from corral.kinds.kind import Kind
from corral.kinds.resources import PRIORITY_CLASSES
from corral.kinds.status import forbidden
from corral.kinds.types import Obj

# The two classes that exist without being made (scheduling.k8s.io, SystemPriorityClasses).
SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


class Priority(Passive):
    """As kube-apiserver's plugin of that name, for pods."""

    name = "Priority"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        spec = review.obj.get("spec")
        if not isinstance(spec, dict):
            return
        name = spec.get("priorityClassName") or ""
        given = spec.get("priority")
        value, policy = 0, "PreemptLowerPriority"
        if name:
            found = lookup.find(PRIORITY_CLASSES, "", name)
            if found is None and name not in SYSTEM:
                raise forbidden("", "pods", review.name, f"no PriorityClass with name {name} was found")
            value, policy = _of(found) if found else (SYSTEM[name], policy)
        else:
            default = _default(lookup.all(PRIORITY_CLASSES))
            if default is not None:
                spec["priorityClassName"] = default["metadata"]["name"]
                value, policy = _of(default)
        if given is not None and given != value:
            why = f"the integer value of priority ({given}) must not be provided in pod spec; priority admission "
            raise forbidden("", "pods", review.name, why + f"controller computed {value} from the given PriorityClass")
        spec["priority"] = value
        spec.setdefault("preemptionPolicy", policy)


def _of(priority_class: Obj) -> tuple[int, str]:
    return priority_class.get("value") or 0, priority_class.get("preemptionPolicy") or "PreemptLowerPriority"


def _default(classes: list[Obj]) -> Obj | None:
    defaults = [found for found in classes if found.get("globalDefault")]
    return min(defaults, key=lambda found: found.get("value") or 0, default=None)

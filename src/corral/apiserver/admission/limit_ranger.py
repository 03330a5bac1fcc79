"""LimitRanger: a namespace's LimitRanges give containers default requests and limits, and bound them."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.admission.pods import containers, is_pod_create
from corral.base.quantities import parse
from corral.kinds.kind import Kind
from corral.kinds.status import forbidden
from corral.kinds.types import Obj, Resource

LIMIT_RANGES = Resource("", "v1", "limitranges", "LimitRange", True)


class LimitRanger(Passive):
    """As kube-apiserver's plugin of that name, for the type Container."""

    name = "LimitRanger"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return is_pod_create(kind, operation, subresource)

    def mutate(self, review: Review, lookup: Lookup) -> None:
        for limit in self._limits(review, lookup):
            for container in containers(review.obj):
                _set_defaults(container, limit)

    def validate(self, review: Review, lookup: Lookup) -> None:
        for limit in self._limits(review, lookup):
            for container in containers(review.obj):
                why = _breach(container, limit)
                if why:
                    raise forbidden("", "pods", review.name, why)

    def _limits(self, review: Review, lookup: Lookup) -> list[Obj]:
        return [
            limit
            for found in lookup.all(LIMIT_RANGES, review.namespace)
            for limit in (found.get("spec") or {}).get("limits") or ()
            if limit.get("type") == "Container"
        ]


def _set_defaults(container: Obj, limit: Obj) -> None:
    resources = container.get("resources") or {}
    for field, defaults in (("limits", limit.get("default")), ("requests", limit.get("defaultRequest"))):
        if defaults:
            resources[field] = {**defaults, **(resources.get(field) or {})}
    if resources:
        container["resources"] = resources


def _breach(container: Obj, limit: Obj) -> str:
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for resource, least in (limit.get("min") or {}).items():
        amount = requests.get(resource)
        if amount is None or parse(amount) < parse(least):
            return f"minimum {resource} usage per Container is {least}, but request is {amount or 'not specified'}"
    for resource, most in (limit.get("max") or {}).items():
        amount = limits.get(resource)
        if amount is None or parse(amount) > parse(most):
            return f"maximum {resource} usage per Container is {most}, but limit is {amount or 'not specified'}"
    return ""

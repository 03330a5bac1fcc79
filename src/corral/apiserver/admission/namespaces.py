"""NamespaceLifecycle: nothing is made in a namespace that is missing or ending, and system namespaces stay."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.kinds.kind import Kind
from corral.kinds.resources import NAMESPACES
from corral.kinds.status import Cause, StatusError, forbidden, not_found

PROTECTED = frozenset({"default", "kube-system", "kube-public"})
# Asked by people and programs that may run in a namespace which is going away.
_REVIEWS = frozenset({"localsubjectaccessreviews"})


class NamespaceLifecycle(Passive):
    """As kube-apiserver's plugin of that name."""

    name = "NamespaceLifecycle"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        if kind.resource == NAMESPACES:
            return operation == "DELETE"
        if operation != "CREATE" or subresource or kind.resource.plural in _REVIEWS:
            return False
        return kind.resource.namespaced

    def mutate(self, review: Review, lookup: Lookup) -> None:
        resource = review.kind.resource
        if review.operation == "DELETE":
            if review.name in PROTECTED:
                raise forbidden("", "namespaces", review.name, "this namespace may not be deleted")
            return
        namespace = lookup.find(NAMESPACES, "", review.namespace)
        if namespace is None:
            raise not_found("", "namespaces", review.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {review.namespace} because it is being terminated"
            cause = Cause(
                "NamespaceTerminating", f"namespace {review.namespace} is being terminated", "metadata.namespace"
            )
            refusal = forbidden(resource.group, resource.plural, review.name, why)
            raise StatusError(
                403,
                refusal.reason,
                refusal.message,
                group=refusal.group,
                kind=refusal.kind,
                name=refusal.name,
                causes=[cause],
            )

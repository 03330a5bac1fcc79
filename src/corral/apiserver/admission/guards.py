"""Guards that stand between authorization and the store: nobody grants what they lack, agents keep to their own."""

from corral.apiserver.admission.api import Lookup, Operation, Passive, Review
from corral.apiserver.auth.authorizer import CellAuthorizer
from corral.apiserver.auth.escalation import GROUP, check
from corral.apiserver.auth.node_restriction import node_restriction
from corral.kinds.kind import Kind

_NODE_VERBS = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}
_NODE_RESOURCES = frozenset(
    {
        "nodes",
        "nodes/status",
        "pods",
        "pods/status",
        "pods/eviction",
        "serviceaccounts/token",
        "leases",
        "csinodes",
        "persistentvolumes",
        "repairs",
        "repairs/status",
    }
)


class Escalation(Passive):
    """Roles and bindings give no more than their writer has."""

    name = "Escalation"

    def __init__(self, authorizer: CellAuthorizer) -> None:
        self._authorizer = authorizer

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return kind.resource.group == GROUP and operation in ("CREATE", "UPDATE")

    def validate(self, review: Review, lookup: Lookup) -> None:
        check(self._authorizer, review.user, review.obj, review.namespace, old=review.old)


class NodeRestriction(Passive):
    """Agents write only what is theirs."""

    name = "NodeRestriction"

    def applies(self, kind: Kind, operation: Operation, subresource: str) -> bool:
        return operation in _NODE_VERBS and _resource(kind, subresource) in _NODE_RESOURCES

    def validate(self, review: Review, lookup: Lookup) -> None:
        obj = None if review.operation == "DELETE" else review.obj
        resource = _resource(review.kind, review.subresource)
        node_restriction(review.user, _NODE_VERBS[review.operation], resource, obj, review.old)


def _resource(kind: Kind, subresource: str) -> str:
    return f"{kind.resource.plural}/{subresource}" if subresource else kind.resource.plural

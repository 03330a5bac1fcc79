"""A cell's authorizer: masters may do anything, then the Node authorizer, then RBAC; the first yes counts."""

from collections.abc import Mapping, Sequence

from corral.apiserver.auth.api import Attributes, Decision, User
from corral.apiserver.auth.node import NodeAuthorizer
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.auth.rbac import RbacAuthorizer
from corral.store.protocol import Store

_YES = Decision(True)
_ALL: tuple[Sequence[Mapping[str, object]], Sequence[Mapping[str, object]]] = (
    ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},),
    ({"verbs": ["*"], "nonResourceURLs": ["*"]},),
)


class CellAuthorizer:
    """`corral.apiserver.auth.api.Authorizer` of a cell. `rbac` is also what the escalation checks ask."""

    def __init__(self, store: Store) -> None:
        self.rbac = RbacAuthorizer(store)
        self._nodes = NodeAuthorizer(store)

    async def start(self) -> None:
        """Read the store and follow it."""
        await self.rbac.start()
        await self._nodes.start()

    async def stop(self) -> None:
        """End the following."""
        await self._nodes.stop()
        await self.rbac.stop()

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """The decision, with the reason that Kubernetes gives for a refusal."""
        if MASTERS in user.groups:
            return _YES
        node = self._nodes.authorize(user, attributes)
        if node.allowed:
            return node
        if self.rbac.authorize(user, attributes).allowed:
            return _YES
        return Decision(False, refusal(user, attributes, node.reason))

    def rules_for(
        self, user: User, namespace: str
    ) -> tuple[Sequence[Mapping[str, object]], Sequence[Mapping[str, object]]]:
        """What `kubectl auth can-i --list` shows, less what the Node authorizer allows: that depends on objects."""
        return _ALL if MASTERS in user.groups else self.rbac.rules_for(user, namespace)


def refusal(user: User, attributes: Attributes, because: str = "") -> str:
    """`User "x" cannot list resource "pods" in API group "" in the namespace "default"`."""
    a = attributes
    if a.is_resource:
        resource = f"{a.resource}/{a.subresource}" if a.subresource else a.resource
        where = f'in the namespace "{a.namespace}"' if a.namespace else "at the cluster scope"
        said = f'User "{user.name}" cannot {a.verb} resource "{resource}" in API group "{a.group}" {where}'
    else:
        said = f'User "{user.name}" cannot {a.verb} path "{a.path}"'
    return f"{said}: {because}" if because else said

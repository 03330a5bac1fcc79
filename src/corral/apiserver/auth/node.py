"""The Node authorizer and the NodeRestriction admission: an agent touches its own machine and its pods, nothing else.

An agent is the user `system:node:NAME` in the group `system:nodes`. What it may read beyond that follows from the pods
bound to its machine: their secrets, config maps, claims, sources, and tokens of their service accounts.
"""

from corral.apiserver.auth.api import Attributes, Decision, User
from corral.apiserver.auth.lookup import core_key, decode
from corral.apiserver.auth.pods import PodIndex
from corral.kinds.repairs import REPAIRS
from corral.kinds.storage import MACHINE, machine_of
from corral.store.protocol import Store

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
LEASE_NAMESPACE = "kube-node-lease"
_YES = Decision(True)
_NO = Decision(False)
_READ = frozenset(("get", "list", "watch"))
_CHANGE = frozenset(("update", "patch"))

# What every agent may do, whatever the object: (group, resource[/subresource]) -> verbs.
_STATIC: dict[tuple[str, str], frozenset[str]] = {
    ("", "services"): _READ,
    ("", "nodes"): frozenset(("create",)),
    ("", "pods"): frozenset(("create",)),
    ("", "events"): frozenset(("create", "update", "patch")),
    ("events.k8s.io", "events"): frozenset(("create", "update", "patch")),
    ("node.k8s.io", "runtimeclasses"): _READ,
    ("storage.k8s.io", "csidrivers"): _READ,
    ("storage.k8s.io", "csinodes"): frozenset(("create",)),
    ("storage.k8s.io", "volumeattachments"): frozenset(("get",)),
    ("authentication.k8s.io", "tokenreviews"): frozenset(("create",)),
    ("authorization.k8s.io", "subjectaccessreviews"): frozenset(("create",)),
    ("authorization.k8s.io", "localsubjectaccessreviews"): frozenset(("create",)),
    ("certificates.k8s.io", "certificatesigningrequests"): frozenset(("create", "get", "list", "watch")),
    ("corral.dev", "hostsubnets"): _READ,
}
_READ_FOR_PODS = frozenset(
    (
        ("", "secrets"),
        ("", "configmaps"),
        ("", "persistentvolumeclaims"),
        ("", "serviceaccounts"),
        ("corral.dev", "sources"),
    )
)


def node_name(user: User) -> str:
    """The machine whose agent `user` is; empty if it is no agent."""
    if NODES_GROUP in user.groups and user.name.startswith(NODE_PREFIX):
        return user.name.removeprefix(NODE_PREFIX)
    return ""


class NodeAuthorizer:
    """Says yes to agents, or has no opinion."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pods = PodIndex(store)

    async def start(self) -> None:
        """Read the pods and follow them."""
        await self._pods.start()

    async def stop(self) -> None:
        """End the following."""
        await self._pods.stop()

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Whether an agent may; the reason of a no is empty for whoever is no agent."""
        node = node_name(user)
        if not node or not attributes.is_resource:
            return _NO
        decision = self._decide(node, attributes)
        if not decision.allowed:
            # The pod that makes it right may have been bound a moment ago.
            self._pods.refresh()
            decision = self._decide(node, attributes)
        return decision

    def _decide(self, node: str, a: Attributes) -> Decision:
        resource = f"{a.resource}/{a.subresource}" if a.subresource else a.resource
        if a.verb in _STATIC.get((a.group, resource), ()):
            return _YES
        if (a.group, resource) in _READ_FOR_PODS:
            return self._referenced(node, a) if a.verb in _READ else _NO
        match (a.group, resource):
            case ("", "nodes" | "nodes/status"):
                return self._own_node(node, a)
            case ("", "pods" | "pods/status" | "pods/eviction"):
                return self._pod(node, a)
            case ("", "serviceaccounts/token"):
                return self._referenced(node, a) if a.verb == "create" else _NO
            case ("", "persistentvolumes"):
                return self._volume(node, a)
            case ("coordination.k8s.io", "leases"):
                return self._lease(node, a)
            case ("corral.dev", "repairs" | "repairs/status"):
                return self._repair(node, a)
            case ("storage.k8s.io", "csinodes"):
                return self._named(node, a) if a.verb in ("get", "update", "patch", "delete") else _NO
        return _NO

    def _own_node(self, node: str, a: Attributes) -> Decision:
        if a.subresource:
            return self._named(node, a) if a.verb in _CHANGE else _NO
        if a.verb in ("list", "watch"):
            mine = a.name == node or selects(a.field_selector, "metadata.name", node)
            return _YES if mine else Decision(False, "can only list/watch nodes with field selector metadata.name")
        return self._named(node, a) if a.verb == "get" or a.verb in _CHANGE else _NO

    def _named(self, node: str, a: Attributes) -> Decision:
        if a.name == node:
            return _YES
        return Decision(False, f"node {node!r} cannot {a.verb} {a.resource} of another node")

    def _lease(self, node: str, a: Attributes) -> Decision:
        if a.namespace != LEASE_NAMESPACE:
            return Decision(False, f'can only access leases in the "{LEASE_NAMESPACE}" system namespace')
        if a.verb == "create":
            return _YES
        return self._named(node, a) if a.verb in ("get", "update", "patch", "delete") else _NO

    def _repair(self, node: str, a: Attributes) -> Decision:
        """Repairs of its own machine: to read them, and to say what came of what they ask for (NodeRestriction)."""
        if a.verb in ("list", "watch") and not a.subresource and not a.name:
            mine = selects(a.field_selector, "spec.nodeName", node)
            return _YES if mine else Decision(False, "can only list/watch repairs with spec.nodeName field selector")
        if a.verb != ("patch" if a.subresource else "get"):
            return _NO
        entry = self._store.get(f"/{REPAIRS.group}/{REPAIRS.plural}/{a.name}")
        spec = (decode(entry).get("spec") or {}) if entry is not None else {}
        return _YES if spec.get("nodeName") == node else _unrelated(node)

    def _pod(self, node: str, a: Attributes) -> Decision:
        if a.verb in ("list", "watch") and not a.subresource and not a.name:
            mine = selects(a.field_selector, "spec.nodeName", node)
            return _YES if mine else Decision(False, "can only list/watch pods with spec.nodeName field selector")
        allowed = {
            "": ("get", "list", "watch", "delete"),
            "status": ("get", "update", "patch"),
            "eviction": ("create",),
        }
        if a.verb not in allowed[a.subresource] or not a.name:
            return _NO
        bound = self._pods.node_of(a.namespace, a.name)
        if bound == node:
            return _YES
        # Of a pod that is gone the agent may learn that it is gone; but not wait for another's of that name to come.
        if a.verb not in ("list", "watch") and self._store.get(core_key("pods", a.namespace, a.name)) is None:
            return _YES
        return _unrelated(node)

    def _referenced(self, node: str, a: Attributes) -> Decision:
        if a.verb in _READ and not a.name:
            return Decision(False, "can only read resources of this type one by one, by name")
        return _YES if self._pods.refers(node, (a.resource, a.namespace, a.name)) else _unrelated(node)

    def _volume(self, node: str, a: Attributes) -> Decision:
        if a.verb in ("list", "watch") and not a.name:
            mine = selects(a.label_selector, MACHINE, node)
            return (
                _YES if mine else Decision(False, f"can only list/watch volumes with label selector {MACHINE}={node}")
            )
        entry = self._store.get(core_key("persistentvolumes", "", a.name))
        volume = decode(entry) if entry is not None else {}
        if a.verb == "patch" and not a.subresource:
            # For the sake of the finalizer alone: NodeRestriction.
            return _YES if volume and machine_of(volume) == node else _unrelated(node)
        claim = (volume.get("spec") or {}).get("claimRef") or {}
        reference = ("persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        return _YES if a.verb in _READ and self._pods.refers(node, reference) else _unrelated(node)


def selects(selector: str, field: str, value: str) -> bool:
    """Whether a field selector's terms, which all must hold, include `field=value`."""
    return any(term in (f"{field}={value}", f"{field}=={value}") for term in selector.replace(" ", "").split(","))


def _unrelated(node: str) -> Decision:
    return Decision(False, f"no relationship found between node '{node}' and this object")

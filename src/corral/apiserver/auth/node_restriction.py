"""NodeRestriction: what an agent may write into objects that it may touch.

Pure admission rules, called for creates, updates (patches included) and deletes by agents. The rules are those of
Kubernetes' plugin/pkg/admission/noderestriction.
"""

from corral.apiserver.auth.api import User
from corral.apiserver.auth.node import LEASE_NAMESPACE, node_name
from corral.apiserver.auth.pods import read
from corral.kinds.status import StatusError, forbidden
from corral.kinds.storage import LOCAL_FINALIZER, machine_of
from corral.kinds.types import Obj

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_OWN_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    )
)
_OWN_LABEL_DOMAINS = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io")


def node_restriction(user: User, verb: str, resource: str, obj: Obj | None, old: Obj | None) -> None:
    """Refuse what an agent may not write; other users pass.

    `verb` is `create`, `update` or `delete`; `resource` is `plural` or `plural/subresource`; `obj` is the object as it
    would be written (None on delete), `old` the one that stands. For `pods/eviction` `old` is the pod, for
    `serviceaccounts/token` it is the pod that `spec.boundObjectRef` names (None if there is none).

    Raises:
        StatusError: 403.
    """
    node = node_name(user)
    if not node:
        return
    match resource:
        case "nodes" | "nodes/status":
            _check_node(node, verb, resource, obj, old)
        case "pods":
            _check_pod(node, verb, obj, old)
        case "pods/status":
            _check_pod_status(node, obj, old)
        case "pods/eviction":
            _check_own_pod(node, "evict", old)
        case "serviceaccounts/token":
            _check_token(node, obj, old)
        case "persistentvolumes":
            _check_volume(node, verb, obj, old)
        case "repairs" | "repairs/status":
            _check_repair(node, resource, obj, old)
        case "leases" | "csinodes":
            _check_named(node, resource, obj or old)


def _refuse(resource: str, obj: Obj | None, why: str) -> StatusError:
    name = ((obj or {}).get("metadata") or {}).get("name", "")
    return forbidden("", resource.partition("/")[0], name, why)


def _check_named(node: str, resource: str, obj: Obj | None) -> None:
    metadata = (obj or {}).get("metadata") or {}
    if metadata.get("name") != node:
        raise _refuse(resource, obj, f"node {node!r} is not allowed to modify {resource} of another node")
    if resource == "leases" and metadata.get("namespace") != LEASE_NAMESPACE:
        raise _refuse(resource, obj, f'leases outside the "{LEASE_NAMESPACE}" namespace are not for nodes')


def _check_volume(node: str, verb: str, obj: Obj | None, old: Obj | None) -> None:
    """An agent lets go of its machine's volumes, once they are deleted, and of nothing else."""
    if verb != "update" or obj is None or old is None or machine_of(old) != node:
        raise _refuse("persistentvolumes", old or obj, f"node {node!r} is not allowed to {verb} this volume")
    if not old["metadata"].get("deletionTimestamp") or _without_hold(obj) != _without_hold(old):
        why = f"node {node!r} may only remove the finalizer {LOCAL_FINALIZER} of a volume that is being deleted"
        raise _refuse("persistentvolumes", old, why)


def _check_repair(node: str, resource: str, obj: Obj | None, old: Obj | None) -> None:
    """An agent answers what is asked of its machine, and changes nothing else."""
    if resource != "repairs/status" or obj is None or old is None or _spec(old).get("nodeName") != node:
        raise _refuse("repairs", old or obj, f"node {node!r} is not allowed to modify this repair")
    if _without_answer(obj) != _without_answer(old):
        raise _refuse("repairs", old, f"node {node!r} may only write status.answer of a repair")


def _without_answer(repair: Obj) -> Obj:
    status = {name: value for name, value in (repair.get("status") or {}).items() if name != "answer"}
    hidden = ("managedFields", "resourceVersion", "generation")
    metadata = {name: value for name, value in repair["metadata"].items() if name not in hidden}
    return {**repair, "metadata": metadata, "status": status}


def _without_hold(volume: Obj) -> Obj:
    kept = [name for name in volume["metadata"].get("finalizers") or () if name != LOCAL_FINALIZER]
    hidden = ("managedFields", "resourceVersion", "generation")
    metadata = {name: value for name, value in volume["metadata"].items() if name not in hidden}
    return {**volume, "metadata": {**metadata, "finalizers": kept}}


def _check_node(node: str, verb: str, resource: str, obj: Obj | None, old: Obj | None) -> None:
    seen = obj or old
    if ((seen or {}).get("metadata") or {}).get("name") != node:
        raise _refuse(resource, seen, f"node {node!r} is not allowed to modify node {_name(seen)!r}")
    if verb == "delete":
        raise _refuse(resource, old, f"node {node!r} is not allowed to delete itself")
    if obj is None:
        return
    changed = _changed(_labels(old), _labels(obj))
    bad = sorted(label for label in changed if not _is_own_label(label))
    if bad:
        raise _refuse(resource, obj, f"is not allowed to modify labels: {', '.join(bad)}")
    if any(_spec(old).get(field) != _spec(obj).get(field) for field in ("podCIDR", "podCIDRs")):
        # Stricter than Kubernetes: other machines make routes of it.
        raise _refuse(resource, obj, f"node {node!r} is not allowed to choose its pod CIDRs")
    if old is not None:
        if _spec(old).get("taints") != _spec(obj).get("taints"):
            raise _refuse(resource, obj, f"node {node!r} is not allowed to modify taints")
        if (old["metadata"].get("ownerReferences") or []) != (obj["metadata"].get("ownerReferences") or []):
            raise _refuse(resource, obj, f"node {node!r} is not allowed to modify ownerReferences")


def _check_pod(node: str, verb: str, obj: Obj | None, old: Obj | None) -> None:
    if verb == "delete":
        _check_own_pod(node, "delete", old)
        return
    if verb != "create":
        raise _refuse("pods", obj, f"unexpected operation {verb!r}, node {node!r} can only create and delete pods")
    pod = obj or {}
    if MIRROR_ANNOTATION not in ((pod.get("metadata") or {}).get("annotations") or {}):
        raise _refuse(
            "pods",
            pod,
            f'pod does not have "{MIRROR_ANNOTATION}" annotation, node {node!r} can only create mirror pods',
        )
    if _spec(pod).get("nodeName") != node:
        raise _refuse("pods", pod, f"node {node!r} can only create pods with spec.nodeName set to itself")
    owners = pod["metadata"].get("ownerReferences") or []
    if not (len(owners) == 1 and owners[0].get("kind") == "Node" and owners[0].get("name") == node):
        raise _refuse("pods", pod, f"node {node!r} can only create pods with an owner reference set to itself")
    found = read(pod)
    references = {plural for plural, _, _ in found.references} if found is not None else set()
    if _spec(pod).get("serviceAccountName") or references - {"serviceaccounts"}:
        raise _refuse("pods", pod, f"node {node!r} can not create pods that reference other objects")


def _check_pod_status(node: str, obj: Obj | None, old: Obj | None) -> None:
    _check_own_pod(node, "update the status of", old)
    if _labels(old) != _labels(obj):
        raise _refuse("pods", old, f"node {node!r} cannot update labels through pod status")


def _check_own_pod(node: str, verb: str, pod: Obj | None) -> None:
    # A pod that is gone is answered with 404 by the verb itself.
    if pod is not None and _spec(pod).get("nodeName") != node:
        raise _refuse("pods", pod, f"node {node!r} can only {verb} pods with spec.nodeName set to itself")


def _check_token(node: str, request: Obj | None, pod: Obj | None) -> None:
    bound = _spec(request).get("boundObjectRef") or {}
    if bound.get("kind") != "Pod" or not bound.get("name"):
        raise _refuse("serviceaccounts", request, f"node {node!r} can only request tokens bound to a pod")
    if not bound.get("uid"):
        raise _refuse("serviceaccounts", request, f"node {node!r} can only request tokens with the uid of the pod")
    if pod is None or pod["metadata"].get("uid") != bound["uid"]:
        raise _refuse("serviceaccounts", request, f"the pod {bound['name']!r} with uid {bound['uid']} is not there")
    _check_own_pod(node, "request tokens bound to", pod)


def _is_own_label(label: str) -> bool:
    domain = label.rpartition("/")[0]
    if label in _OWN_LABELS or _within(domain, _OWN_LABEL_DOMAINS):
        return True
    return not _within(domain, _RESERVED_DOMAINS)


def _within(domain: str, domains: tuple[str, ...]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in domains)


def _changed(old: dict[str, str], new: dict[str, str]) -> set[str]:
    return {label for label in old.keys() | new.keys() if old.get(label) != new.get(label)}


def _name(obj: Obj | None) -> str:
    return str(((obj or {}).get("metadata") or {}).get("name", ""))


def _labels(obj: Obj | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("labels") or {}


def _spec(obj: Obj | None) -> Obj:
    return (obj or {}).get("spec") or {}

"""Builders, so that the policy reads as policy: lists are words in one text."""

from collections.abc import Sequence

from corral.kinds.types import Obj

RBAC = "rbac.authorization.k8s.io"
_API = f"{RBAC}/v1"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}

READ = "get list watch"
WRITE = "create delete deletecollection patch update"
ALL = "*"


def allow(verbs: str, resources: str, group: str = "", names: str = "") -> Obj:
    """A resource rule; `group` may name several groups, the word `core` stands for the core group."""
    groups = ["" if word == "core" else word for word in group.split()] or [""]
    rule: Obj = {"verbs": verbs.split(), "apiGroups": groups, "resources": resources.split()}
    if names:
        rule["resourceNames"] = names.split()
    return rule


def allow_urls(verbs: str, urls: str) -> Obj:
    """A non-resource rule."""
    return {"verbs": verbs.split(), "nonResourceURLs": urls.split()}


def events() -> Obj:
    """To report what happened."""
    return allow("create patch update", "events", "core events.k8s.io")


def user(name: str) -> Obj:
    return {"kind": "User", "apiGroup": RBAC, "name": name}


def group(name: str) -> Obj:
    return {"kind": "Group", "apiGroup": RBAC, "name": name}


def account(namespace: str, name: str) -> Obj:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def cluster_role(name: str, rules: Sequence[Obj], labels: dict[str, str] | None = None) -> Obj:
    return {**_head("ClusterRole", name, labels=labels), "rules": list(rules)}


def aggregate(name: str, selecting: Sequence[str], labels: dict[str, str] | None = None) -> Obj:
    """A cluster role whose rules are those of all roles with one of the labels `LABEL: "true"`."""
    selectors = [{"matchLabels": {label: "true"}} for label in selecting]
    return {
        **_head("ClusterRole", name, labels=labels),
        "aggregationRule": {"clusterRoleSelectors": selectors},
        "rules": [],
    }


def cluster_binding(name: str, role: str, *subjects: Obj) -> Obj:
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    return {**_head("ClusterRoleBinding", name), "roleRef": reference, "subjects": list(subjects)}


def role(namespace: str, name: str, rules: Sequence[Obj]) -> Obj:
    return {**_head("Role", name, namespace), "rules": list(rules)}


def binding(namespace: str, name: str, role_name: str, *subjects: Obj) -> Obj:
    reference = {"apiGroup": RBAC, "kind": "Role", "name": role_name}
    return {**_head("RoleBinding", name, namespace), "roleRef": reference, "subjects": list(subjects)}


def _head(kind: str, name: str, namespace: str = "", labels: dict[str, str] | None = None) -> Obj:
    metadata: Obj = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata["labels"] = {**_LABELS, **(labels or {})}
    metadata["annotations"] = dict(_ANNOTATIONS)
    return {"apiVersion": _API, "kind": kind, "metadata": metadata}

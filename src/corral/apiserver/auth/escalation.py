"""Nobody grants what they do not have.

Writing a role takes all the permissions in it, or the verb `escalate` on it; writing a binding takes all the
permissions of the role it refers to, or the verb `bind` on that role. Called at admission, for creates and updates.
"""

from typing import Protocol

from corral.apiserver.auth.api import Attributes, Decision, User
from corral.apiserver.auth.pki import MASTERS
from corral.apiserver.auth.rbac import RbacAuthorizer
from corral.apiserver.auth.rules import Rule, parse_rules, uncovered
from corral.kinds.status import forbidden, not_found
from corral.kinds.types import Obj

GROUP = "rbac.authorization.k8s.io"
_PLURALS = {
    "Role": "roles",
    "ClusterRole": "clusterroles",
    "RoleBinding": "rolebindings",
    "ClusterRoleBinding": "clusterrolebindings",
}


class Grants(Protocol):
    """What the check asks: a `CellAuthorizer`."""

    @property
    def rbac(self) -> RbacAuthorizer: ...

    def authorize(self, user: User, attributes: Attributes) -> Decision: ...


def check(authorizer: Grants, user: User, obj: Obj, namespace: str, *, old: Obj | None = None) -> None:
    """Refuse a Role, ClusterRole, RoleBinding or ClusterRoleBinding that gives more than `user` has.

    `namespace` is empty for the cluster-wide kinds; `old` is what stands there before an update. Other kinds pass.

    Raises:
        StatusError: 403 naming what is missing; 404 if a binding's role is not there and `user` may not bind unseen.
    """
    kind = obj.get("kind", "")
    if kind not in _PLURALS or MASTERS in user.groups:
        return
    if kind in ("Role", "ClusterRole"):
        _check_role(authorizer, user, obj, namespace, old)
    else:
        _check_binding(authorizer, user, obj, namespace, old)


def _check_role(authorizer: Grants, user: User, obj: Obj, namespace: str, old: Obj | None) -> None:
    unchanged = old is not None and all(
        (old.get(field) or []) == (obj.get(field) or []) for field in ("rules", "aggregationRule")
    )
    name = obj["metadata"].get("name", "")
    if unchanged or _may(authorizer, user, "escalate", obj["kind"], namespace, name):
        return
    if obj.get("aggregationRule"):
        # It will hold whatever roles are labelled for it later: only who has everything may write it.
        wanted: tuple[Rule, ...] = (
            Rule(frozenset("*"), frozenset("*"), frozenset("*")),
            Rule(frozenset("*"), urls=("*",)),
        )
    else:
        wanted = parse_rules(obj)
    _require(authorizer, user, wanted, namespace, obj["kind"], name)


def _check_binding(authorizer: Grants, user: User, obj: Obj, namespace: str, old: Obj | None) -> None:
    unchanged = old is not None and all(
        (old.get(field) or []) == (obj.get(field) or []) for field in ("subjects", "roleRef")
    )
    reference = obj["roleRef"]
    role_namespace = namespace if reference["kind"] == "Role" else ""
    # As in Kubernetes the right to `bind` is asked for where the binding is, also for a ClusterRole.
    if unchanged or _may(authorizer, user, "bind", reference["kind"], namespace, reference["name"]):
        return
    rules = authorizer.rbac.role_rules((role_namespace, reference["name"]))
    if rules is None:
        raise not_found(GROUP, _PLURALS[reference["kind"]], reference["name"])
    _require(authorizer, user, rules, namespace, obj["kind"], obj["metadata"].get("name", ""))


def _may(authorizer: Grants, user: User, verb: str, kind: str, namespace: str, name: str) -> bool:
    attributes = Attributes(verb, GROUP, _PLURALS[kind], namespace=namespace, name=name)
    return authorizer.authorize(user, attributes).allowed


def _require(authorizer: Grants, user: User, wanted: tuple[Rule, ...], namespace: str, kind: str, name: str) -> None:
    missing = uncovered(list(authorizer.rbac.rules(user, namespace)), wanted)
    if not missing:
        return
    said = "\n".join(_describe(rule) for rule in missing)
    why = (
        f'user "{user.name}" (groups={list(user.groups)!r}) is attempting to grant RBAC permissions not currently held:'
        f"\n{said}"
    )
    raise forbidden(GROUP, _PLURALS[kind], name, why)


def _describe(rule: Rule) -> str:
    fields = (
        ("APIGroups", rule.groups),
        ("Resources", rule.resources),
        ("ResourceNames", rule.names),
        ("NonResourceURLs", rule.urls),
        ("Verbs", rule.verbs),
    )
    shown = [f"{name}:[{', '.join(f'{v!r}' for v in sorted(values))}]" for name, values in fields if values]
    return "{" + ", ".join(shown) + "}"

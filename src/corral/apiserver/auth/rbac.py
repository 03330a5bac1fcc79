"""Role-based access control, answered from memory.

Bindings are indexed by subject, roles by name, aggregated cluster roles computed when first needed. A decision for one
kind of request (user, verb, resource, namespace, but not the object's name) is remembered until any RBAC object
changes, so that a request usually costs one dictionary lookup.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from corral.apiserver.auth.api import Attributes, Decision, User
from corral.apiserver.auth.lookup import RBAC_PREFIX, decode
from corral.apiserver.auth.mirror import Mirror
from corral.apiserver.auth.rules import Rule, parse_rules
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.store.protocol import Entry, Store

log = logging.getLogger(__name__)

_REMEMBERED = 16_384
_YES = Decision(True)
_NO = Decision(False)

RoleKey = tuple[str, str]
"""Namespace and name; an empty namespace means a ClusterRole."""
Subject = tuple[str, str]
"""`User` or `Group`, and the name."""


@dataclass(frozen=True, slots=True)
class ClusterRole:
    """A ClusterRole; with `selectors` its own rules do not count."""

    name: str
    labels: Mapping[str, str]
    rules: tuple[Rule, ...]
    selectors: tuple[LabelSelector, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """A RoleBinding or ClusterRoleBinding; `namespace` is empty for the latter."""

    namespace: str
    role: RoleKey
    subjects: tuple[Subject, ...]

    @classmethod
    def parse(cls, obj: Obj) -> "Binding":
        """The binding in a valid object. A service account is a user by its full name."""
        namespace = obj["metadata"].get("namespace", "")
        reference = obj["roleRef"]
        role = (namespace if reference["kind"] == "Role" else "", reference["name"])
        return cls(namespace, role, tuple(_subject(subject, namespace) for subject in obj.get("subjects") or ()))


def _subject(subject: Mapping[str, str], namespace: str) -> Subject:
    if subject["kind"] == "ServiceAccount":
        return "User", f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
    return subject["kind"], subject["name"]


class RbacAuthorizer:
    """Allows what a role bound to the user, or to one of its groups, allows."""

    def __init__(self, store: Store) -> None:
        self._mirror = Mirror(store, RBAC_PREFIX, self._apply)
        self._roles: dict[RoleKey, tuple[Rule, ...]] = {}
        self._cluster_roles: dict[str, ClusterRole] = {}
        self._bindings: dict[str, Binding] = {}
        self._by_subject: dict[Subject, set[str]] = defaultdict(set)
        self._remembered: dict[tuple[object, ...], tuple[bool, frozenset[str]]] = {}

    async def start(self) -> None:
        """Read what is there, so that the first request is as quick as the next."""
        self._mirror.refresh()

    async def stop(self) -> None:
        """Nothing runs in the background."""

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Whether a rule allows it; as of the last acknowledged write."""
        self._mirror.refresh()
        a = attributes
        key = (user.name, user.groups, a.verb, a.group, a.resource, a.subresource, a.namespace, a.path)
        found = self._remembered.get(key)
        if found is None:
            found = self._decide(user, a)
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = found
        any_name, names = found
        return _YES if any_name or a.name in names else _NO

    def rules(self, user: User, namespace: str) -> Iterator[Rule]:
        """Every rule that holds for `user` in `namespace` (and, with an empty one, at cluster scope)."""
        self._mirror.refresh()
        yield from self._rules(user, namespace)

    def rules_for(
        self, user: User, namespace: str
    ) -> tuple[Sequence[Mapping[str, object]], Sequence[Mapping[str, object]]]:
        """Resource rules and non-resource rules, for SelfSubjectRulesReview."""
        rules = list(dict.fromkeys(self.rules(user, namespace)))
        return [r.as_object() for r in rules if not r.urls], [r.as_object() for r in rules if r.urls]

    def role_rules(self, role: RoleKey) -> tuple[Rule, ...] | None:
        """The rules of a role, aggregation done; None if there is no such role."""
        self._mirror.refresh()
        return self._rules_of(role)

    def _decide(self, user: User, a: Attributes) -> tuple[bool, frozenset[str]]:
        names: set[str] = set()
        for rule in self._rules(user, a.namespace):
            if not a.is_resource:
                if rule.allows(a):
                    return True, frozenset()
            elif rule.allows_kind(a.verb, a.group, a.resource, a.subresource):
                if not rule.names:
                    return True, frozenset()
                names |= rule.names
        return False, frozenset(names)

    def _rules(self, user: User, namespace: str) -> Iterator[Rule]:
        for key in self._bindings_of(user):
            binding = self._bindings[key]
            if not binding.namespace or binding.namespace == namespace:
                yield from self._rules_of(binding.role) or ()

    def _bindings_of(self, user: User) -> Iterable[str]:
        found: dict[str, None] = {}
        for subject in (("User", user.name), *(("Group", group) for group in user.groups)):
            found.update(dict.fromkeys(self._by_subject.get(subject, ())))
        return found

    def _rules_of(self, role: RoleKey) -> tuple[Rule, ...] | None:
        rules = self._roles.get(role)
        if rules is None and not role[0] and role[1] in self._cluster_roles:
            rules = self._roles[role] = self._aggregate(self._cluster_roles[role[1]])
        return rules

    def _aggregate(self, cluster_role: ClusterRole) -> tuple[Rule, ...]:
        """Kubernetes writes the union into the object, where it is selected again by others; here it is followed."""
        rules: dict[Rule, None] = {}
        todo, seen = [cluster_role], set()
        while todo:
            role = todo.pop()
            if role.name in seen:
                continue
            seen.add(role.name)
            if not role.selectors:
                rules.update(dict.fromkeys(role.rules))
            for selector in role.selectors:
                todo += [other for other in self._cluster_roles.values() if selector.matches(other.labels)]
        return tuple(rules)

    def _apply(self, key: str, entry: Entry | None) -> None:
        self._remembered.clear()
        try:
            self._set(key, decode(entry) if entry is not None else None)
        except (LookupError, TypeError, ValueError, AttributeError, StatusError) as error:
            # Validation keeps such objects out. If one came in all the same, it must not end everybody's access.
            log.warning("%s cannot be read and gives nothing: %r", key, error)
            self._set(key, None)

    def _set(self, key: str, obj: Obj | None) -> None:
        plural, _, rest = key.removeprefix(RBAC_PREFIX).partition("/")
        if plural == "roles":
            namespace, _, name = rest.partition("/")
            self._set_role((namespace, name), obj)
        elif plural == "clusterroles":
            self._set_cluster_role(rest, obj)
        elif plural in ("rolebindings", "clusterrolebindings"):
            self._set_binding(key, obj)

    def _set_role(self, role: RoleKey, obj: Obj | None) -> None:
        if obj is None:
            self._roles.pop(role, None)
        else:
            self._roles[role] = parse_rules(obj)

    def _set_cluster_role(self, name: str, obj: Obj | None) -> None:
        if obj is None:
            self._cluster_roles.pop(name, None)
        else:
            selectors = (obj.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()
            self._cluster_roles[name] = ClusterRole(
                name,
                obj["metadata"].get("labels") or {},
                parse_rules(obj),
                tuple(LabelSelector.from_object(selector) for selector in selectors),
            )
        # Any of them may be part of an aggregated one: all are computed again when next asked for.
        self._roles = {role: rules for role, rules in self._roles.items() if role[0]}

    def _set_binding(self, key: str, obj: Obj | None) -> None:
        old = self._bindings.pop(key, None)
        for subject in old.subjects if old is not None else ():
            keys = self._by_subject[subject]
            keys.discard(key)
            if not keys:
                del self._by_subject[subject]
        if obj is not None:
            binding = self._bindings[key] = Binding.parse(obj)
            for subject in binding.subjects:
                self._by_subject[subject].add(key)

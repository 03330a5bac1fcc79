"""RBAC's policy rules as pure functions: does a rule allow a request, and do some rules cover others.

The meaning is that of Kubernetes' pkg/registry/rbac/validation and pkg/apis/rbac/v1/evaluation_helpers.go.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from corral.apiserver.auth.api import Attributes
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Rule:
    """One `PolicyRule`."""

    verbs: frozenset[str]
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    urls: tuple[str, ...] = ()

    @classmethod
    def parse(cls, rule: Mapping[str, Any]) -> "Rule":
        """The rule in an object that passed validation; missing lists are empty."""
        return cls(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
        )

    def as_object(self) -> Obj:
        """The rule as `ResourceRule` or `NonResourceRule`."""
        obj: Obj = {"verbs": sorted(self.verbs)}
        if self.urls:
            return {**obj, "nonResourceURLs": list(self.urls)}
        obj |= {"apiGroups": sorted(self.groups), "resources": sorted(self.resources)}
        if self.names:
            obj["resourceNames"] = sorted(self.names)
        return obj

    def allows_verb(self, verb: str) -> bool:
        return verb in self.verbs or "*" in self.verbs

    def allows_kind(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether the rule speaks of this verb on this (sub)resource, whatever the object's name."""
        if not self.allows_verb(verb) or not (group in self.groups or "*" in self.groups):
            return False
        if "*" in self.resources:
            return True
        if not subresource:
            return resource in self.resources
        return f"{resource}/{subresource}" in self.resources or f"*/{subresource}" in self.resources

    def allows(self, attributes: Attributes) -> bool:
        """Whether the rule allows the request."""
        a = attributes
        if not a.is_resource:
            return self.allows_verb(a.verb) and any(url_matches(pattern, a.path) for pattern in self.urls)
        return self.allows_kind(a.verb, a.group, a.resource, a.subresource) and (not self.names or a.name in self.names)


def url_matches(pattern: str, path: str) -> bool:
    """Whether a `nonResourceURLs` entry (exact, `*`, or with a trailing `*`) means `path`."""
    return pattern == "*" or pattern == path or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def parse_rules(role: Obj) -> tuple[Rule, ...]:
    """The rules written in a Role or ClusterRole."""
    return tuple(Rule.parse(rule) for rule in role.get("rules") or ())


def uncovered(have: Sequence[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """The parts of `wanted` that `have` does not allow, each with one verb, group, resource and name."""
    return [part for rule in wanted for part in _parts(rule) if not any(_covers(one, part) for one in have)]


def _parts(rule: Rule) -> Iterator[Rule]:
    names: Iterable[str] = sorted(rule.names) or ("",)
    for verb, group, resource, name in product(sorted(rule.verbs), sorted(rule.groups), sorted(rule.resources), names):
        yield Rule(
            frozenset((verb,)), frozenset((group,)), frozenset((resource,)), frozenset((name,)) if name else frozenset()
        )
    for verb, url in product(sorted(rule.verbs), rule.urls):
        yield Rule(frozenset((verb,)), urls=(url,))


def _covers(have: Rule, part: Rule) -> bool:
    if not ("*" in have.verbs or part.verbs <= have.verbs):
        return False
    if part.urls:
        return any(_url_covers(pattern, part.urls[0]) for pattern in have.urls)
    if not ("*" in have.groups or part.groups <= have.groups):
        return False
    if have.names and not (part.names and part.names <= have.names):
        return False
    (resource,) = part.resources
    if "*" in have.resources or resource in have.resources:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in have.resources


def _url_covers(pattern: str, wanted: str) -> bool:
    if pattern in ("*", wanted):
        return True
    return pattern.endswith("*") and wanted.startswith(pattern.rstrip("*"))

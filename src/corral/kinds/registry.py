"""Which kinds there are.

The built-in ones are there from the start; installing a CustomResourceDefinition adds kinds and removing it takes them
away.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from corral.kinds.builtin.definitions import definitions
from corral.kinds.builtin.resources import Row, rows
from corral.kinds.builtin.strategies import strategy_of
from corral.kinds.crd import kinds_of
from corral.kinds.kind import Kind
from corral.kinds.types import Obj, Resource

Key = tuple[str, str, str]

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


class Registry:
    """All kinds, by plural and by kind. `generation` rises with every change, for the caches of readers."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.generation = 0
        self._by_plural: dict[Key, Kind] = {}
        self._by_kind: dict[Key, Kind] = {}
        self._custom: dict[str, tuple[Kind, ...]] = {}
        self._openapi: dict[Key, Mapping[str, Any]] = {}
        for kind in kinds:
            self._add(kind)

    @classmethod
    def builtin(cls) -> "Registry":
        """Everything that Kubernetes 1.36 serves by default."""
        return cls(_kind(row) for row in rows())

    def get(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind behind a URL path."""
        return self._by_plural.get((group, version, plural))

    def by_kind(self, group: str, version: str, kind: str) -> Kind | None:
        """The kind behind an object's `apiVersion` and `kind`."""
        return self._by_kind.get((group, version, kind))

    def kinds(self) -> Iterable[Kind]:
        """All kinds, built-in ones first."""
        return tuple(self._by_plural.values())

    def groups(self) -> Mapping[str, Sequence[str]]:
        """Group -> versions, preferred first."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._by_plural:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        for versions in found.values():
            versions.sort(key=version_priority)
        return found

    def install_crd(self, crd: Obj) -> None:
        """Serve what a CustomResourceDefinition defines, in place of what an earlier version of it did.

        Raises:
            CelUnavailable: it has CEL rules, and `corral[cel]` is not installed.
        """
        name = crd["metadata"]["name"]
        kinds = tuple(kinds_of(crd, definitions().schema))
        self._take_away(name)
        for kind in kinds:
            self._add(kind)
        for version in crd["spec"]["versions"]:
            key = (crd["spec"]["group"], version["name"], crd["spec"]["names"]["plural"])
            self._openapi[key] = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        self._custom[name] = kinds
        self.generation += 1

    def remove_crd(self, name: str) -> None:
        """Stop serving what the CustomResourceDefinition `name` defined; nothing happens if it never was."""
        if self._take_away(name):
            self.generation += 1

    def openapi_of(self, kind: Kind) -> Mapping[str, Any]:
        """The OpenAPI node of a custom kind, as its CRD has it."""
        resource = kind.resource
        return self._openapi.get((resource.group, resource.version, resource.plural), {})

    def names_in(self, group: str) -> Mapping[str, str]:
        """Every plural, singular, short name and kind in use in a group -> the CRD's name, or `plural.group`."""
        found: dict[str, str] = {}
        for kind in self._by_plural.values():
            resource = kind.resource
            if resource.group == group:
                for name in (resource.plural, kind.singular, resource.kind, kind.list_kind, *kind.short_names):
                    found[name] = f"{resource.plural}.{group}"
        return found

    def _take_away(self, name: str) -> bool:
        kinds = self._custom.pop(name, ())
        for kind in kinds:
            resource = kind.resource
            del self._by_plural[resource.group, resource.version, resource.plural]
            del self._by_kind[resource.group, resource.version, resource.kind]
            self._openapi.pop((resource.group, resource.version, resource.plural), None)
        return bool(kinds)

    def _add(self, kind: Kind) -> None:
        resource = kind.resource
        self._by_plural[resource.group, resource.version, resource.plural] = kind
        self._by_kind[resource.group, resource.version, resource.kind] = kind


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as discovery prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, then the rest by name."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return 3, 0, 0, version
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stage, -int(match[1]), -int(match[3] or 0), version


def _kind(row: Row) -> Kind:
    resource: Resource = row.resource
    return Kind(
        resource=resource,
        singular=resource.kind.lower(),
        list_kind=f"{resource.kind}List",
        strategy=strategy_of(row),
        short_names=row.short_names,
        categories=row.categories,
        subresources=frozenset(row.subresources),
        verbs=row.verbs,
        stored_as=row.stored_as,
        selectable_fields=row.selectable,
        scale_paths=row.scale or {},
        schema=definitions().root(row.definition),
    )

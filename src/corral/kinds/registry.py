"""Which kinds there are.

The built-in ones are there from the start; installing a CustomResourceDefinition adds kinds and removing it takes them
away. Objects of one kind in several versions are stored in one of them: `storage` says which, `convert` goes there and
back.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from corral.kinds.builtin.definitions import definitions
from corral.kinds.builtin.resources import Row, rows
from corral.kinds.builtin.strategies import strategy_of
from corral.kinds.kind import Kind
from corral.kinds.types import Resource

Key = tuple[str, str, str]

_VERSION = re.compile(r"v(\d+)(?:(alpha|beta)(\d+))?")


class Registry:
    """All kinds, by plural and by kind. `generation` rises with every change, for the caches of readers."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.generation = 0
        self._by_plural: dict[Key, Kind] = {}
        self._by_kind: dict[Key, Kind] = {}
        self._custom: dict[str, tuple[Kind, ...]] = {}
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
        storage_version=row.storage.rpartition("/")[2],
        selectable_fields=row.selectable,
        scale_paths=row.scale or {},
        schema=definitions().root(row.definition),
    )

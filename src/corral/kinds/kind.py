"""A kind as a row of data.

Built-in or custom, every kind is the same thing: names, scope, subresources, printer columns, a schema, and, where it
has behaviour, a small strategy. The registry hands out kinds; the API server has no code per kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from corral.kinds.status import Cause
from corral.kinds.types import Obj, Resource


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column of a Table. `type` and `format` are OpenAPI's; `priority` above 0 is shown with `-o wide` only.

    `path` is a JSONPath (for CRDs); built-in kinds compute their cells in `tables.py`.
    """

    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""
    path: str = ""


class Strategy(Protocol):
    """What a kind does beyond its schema. All functions are pure but for mutating `obj`, which is the caller's own."""

    def prepare_create(self, obj: Obj) -> None:
        """Set what only the server may set and default what depends on other fields. Name and uid are set.

        It is called again on the same object, under another name, if a generated name was taken.
        """

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Carry over what an update may not touch; raise `metadata.generation` if the spec changed."""

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Make `obj` the old object with only the status subresource's fields taken from the new one."""

    def validate(self, obj: Obj, old: Obj | None) -> Sequence[Cause]:
        """What the schema cannot say; `old` is None on create."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One served version of one kind."""

    resource: Resource
    singular: str
    list_kind: str
    strategy: Strategy
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    """Names without the parent: `status`, `scale`, `binding`, `eviction`, `log`, `exec`, `token` ..."""
    verbs: tuple[str, ...] = (
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    )
    columns: tuple[Column, ...] = ()
    stored_as: str = ""
    """The `apiVersion` that its objects are stored in, when it is another than `resource.api_version`."""
    selectable_fields: tuple[str, ...] = ()
    """Paths beyond metadata.name and metadata.namespace that a field selector may use."""
    scale_paths: Mapping[str, str] = field(default_factory=dict)
    """For `scale`: `spec` (replicas), `status` (replicas) and `selector` as dotted paths."""
    schema: Any = None
    """`corral.kinds.schema.Schema`, loaded on first use for built-in kinds."""
    custom: bool = False

"""Schemas as server-side apply sees them: which values are leaves, which lists are keyed, which fields have no owner.

A node is made when a walk first reaches it and is kept, so that tracking a write costs a dictionary look-up a field.
"""

from functools import lru_cache
from typing import Any, Final, Protocol

import orjson

from corral.kinds.types import Obj

LEAF: Final = 0
"""Owned as a whole: scalars, atomic lists and mappings."""
FIELDS: Final = 1
"""A mapping whose members are owned one by one."""
ITEMS: Final = 2
"""A list whose items are told apart by key fields."""
SET: Final = 3
"""A list of distinct scalars."""

# Set by the server alone, so nobody owns them (apimachinery, util/managedfields/internal/stripmeta.go).
_UNOWNED: Final = frozenset(("apiVersion", "kind"))
UNOWNED_METADATA: Final = frozenset(
    (
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    )
)
_ALL_OWNED: Final[frozenset[str]] = frozenset()


class ApplySchema(Protocol):
    """What server-side apply needs to know about a field; `corral.kinds.schema.Schema` is one."""

    @property
    def type(self) -> str: ...

    @property
    def custom(self) -> bool: ...

    @property
    def list_type(self) -> str: ...

    @property
    def list_map_keys(self) -> tuple[str, ...]: ...

    @property
    def map_type(self) -> str: ...

    @property
    def patch_strategy(self) -> tuple[str, ...]: ...

    @property
    def patch_merge_key(self) -> str: ...

    @property
    def preserve_unknown(self) -> bool: ...

    @property
    def items(self) -> "ApplySchema | None": ...

    def field(self, name: str) -> "ApplySchema | None": ...

    def default_into(self, value: Any) -> Any: ...

    def __hash__(self) -> int: ...


class Child:
    """A member of a mapping: its path element, its node, and whether the schema names it (rather than a map's key).

    `node` is None for a member that nobody owns.
    """

    __slots__ = ("element", "named", "node")

    def __init__(self, element: str, node: "Node | None", named: bool) -> None:
        self.element = element
        self.node = node
        self.named = named


class Node:
    """One place in a schema. `shape` is LEAF, FIELDS, ITEMS or SET.

    What a custom resource's schema leaves open is FIELDS: mappings there are owned member by member, all else whole.
    """

    __slots__ = (
        "_children",
        "_item",
        "_named",
        "_open",
        "_schema",
        "_unowned",
        "custom",
        "is_metadata",
        "keys",
        "shape",
    )

    def __init__(
        self, schema: ApplySchema | None, *, custom: bool, unowned: frozenset[str] = _ALL_OWNED, root: bool = False
    ) -> None:
        self._schema = schema
        self.custom = custom
        self._unowned = unowned
        self.is_metadata = unowned is UNOWNED_METADATA
        self.keys: tuple[str, ...] = ()
        self.shape = FIELDS if root else self._shape()
        self._named = schema is not None and self.shape == FIELDS and schema.field("") is None
        self._children: dict[str, Child] = {}
        self._item: Node | None = None
        self._open: Node | None = None

    def _shape(self) -> int:
        schema = self._schema
        if schema is None:
            return FIELDS if self.custom else LEAF
        if schema.type == "array":
            return self._list_shape(schema)
        if schema.map_type == "atomic" or (schema.preserve_unknown and not schema.custom):
            return LEAF
        return FIELDS if schema.type == "object" or schema.preserve_unknown else LEAF

    def _list_shape(self, schema: ApplySchema) -> int:
        if schema.list_type == "map" and schema.list_map_keys:
            self.keys = tuple(sorted(schema.list_map_keys))
            return ITEMS
        if schema.list_type == "set":
            return SET
        if not schema.list_type and "merge" in schema.patch_strategy:
            # Lists that were merged before they had a list type (kube-openapi, pkg/schemaconv).
            self.keys = (schema.patch_merge_key,) if schema.patch_merge_key else ()
            return ITEMS if self.keys else SET
        return LEAF

    def child(self, name: str) -> Child:
        """The member `name` of a mapping."""
        found = self._children.get(name)
        return found if found is not None else self._make_child(name)

    def _make_child(self, name: str) -> Child:
        schema = self._schema.field(name) if self._named and self._schema is not None else None
        if name in self._unowned:
            child = Child(f"f:{name}", None, schema is not None)
        elif schema is None:
            # A key of a map, or a field that the schema leaves open: there is no end of those, so they are not kept.
            return Child(f"f:{name}", self._open_node(), named=False)
        else:
            is_metadata = name == "metadata" and self._unowned >= _UNOWNED
            unowned = UNOWNED_METADATA if is_metadata else _ALL_OWNED
            child = Child(f"f:{name}", Node(schema, custom=self.custom, unowned=unowned, root=is_metadata), named=True)
        self._children[name] = child
        return child

    def _open_node(self) -> "Node":
        if self._open is None:
            values = self._schema.field("") if self._schema is not None else None
            self._open = Node(values, custom=self.custom)
        return self._open

    @property
    def item(self) -> "Node":
        """The node of a list's items."""
        if self._item is None:
            self._item = Node(self._schema.items if self._schema is not None else None, custom=self.custom)
        return self._item

    def under(self, element: str) -> "tuple[Node | None, bool]":
        """The node behind a path element, and whether the schema names it."""
        if not element.startswith("f:"):
            return self.item, False
        child = self.child(element[2:])
        return child.node, child.named

    def element(self, item: Any) -> str:
        """The path element of a list's item; a key that is missing counts with its default, or not at all."""
        if self.shape == SET:
            return f"v:{orjson.dumps(item).decode()}"
        if type(item) is not dict:
            return f"k:{orjson.dumps(item).decode()}"
        keys = self.keys
        if len(keys) == 1 and keys[0] in item:
            return f"k:{orjson.dumps({keys[0]: item[keys[0]]}).decode()}"
        return f"k:{orjson.dumps(self.key_values(item)).decode()}"

    def key_values(self, item: Obj) -> Obj:
        """The key fields of an item, defaulted, in order of their names."""
        if any(key not in item for key in self.keys):
            schema = self._schema.items if self._schema is not None else None
            keyed = {key: item[key] for key in self.keys if key in item}
            item = schema.default_into(keyed) if schema is not None else keyed
        return {key: item[key] for key in self.keys if key in item}


@lru_cache(maxsize=1024)
def root_node(schema: ApplySchema, subresource: str) -> Node:
    """The node of a whole object, as written through `subresource` (empty for the object itself).

    The endpoint of the object does not own the status of built-in kinds, and that of the status does not own the spec.
    """
    foreign = "spec" if subresource == "status" else "" if subresource or schema.custom else "status"
    return Node(schema, custom=schema.custom, unowned=_UNOWNED | {foreign} if foreign else _UNOWNED, root=True)

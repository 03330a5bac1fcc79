"""From an OpenAPI node (the distilled data's, or a CRD's) to a `Schema`."""

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from corral.kinds.schema.base import Schema
from corral.kinds.schema.checks import checks_of
from corral.kinds.schema.shapes import (
    AnySchema,
    BooleanSchema,
    Fields,
    IntegerSchema,
    IntOrStringSchema,
    ListSchema,
    MapSchema,
    NumberSchema,
    ObjectSchema,
    QuantitySchema,
    StringSchema,
)

Node = Mapping[str, Any]
Resolver = Callable[[str], Schema]
"""Finds the schema of a `$ref`."""

_SHARED: dict[tuple[str, str], Schema] = {}
"""Scalars of built-in kinds without a rule of their own, by type and format: the same node wherever they stand."""


def build(node: Node, resolve: Resolver, *, custom: bool = False) -> Schema:
    """The schema that a node describes. `custom` chooses a CRD's rules instead of Go's."""
    reference = node.get("$ref")
    if reference is not None:
        return _with_extensions(resolve(reference), node)
    if not custom and node.keys() <= {"type", "format"}:
        key = (node.get("type", ""), node.get("format", ""))
        if key[0] not in ("object", "array"):
            if key not in _SHARED:
                _SHARED[key] = _finished(_shape(node, resolve, custom), node, custom)
            return _SHARED[key]
    return _finished(_shape(node, resolve, custom), node, custom)


def _shape(node: Node, resolve: Resolver, custom: bool) -> Schema:
    kind = node.get("type", "")
    format = node.get("format", "")
    if node.get("x-kubernetes-int-or-string") or format == "int-or-string":
        return IntOrStringSchema()
    if kind == "string":
        return QuantitySchema() if format == "quantity" and not custom else StringSchema()
    if kind == "integer":
        return IntegerSchema(format)
    if kind == "number":
        return NumberSchema()
    if kind == "boolean":
        return BooleanSchema()
    if kind == "array":
        return ListSchema(build(node.get("items", {}), resolve, custom=custom))
    if "properties" in node or node.get("x-kubernetes-embedded-resource"):
        return _object(node, resolve, custom)
    values = node.get("additionalProperties")
    if isinstance(values, Mapping) and values:
        return MapSchema(build(values, resolve, custom=custom))
    if kind == "object" and custom and not values and not node.get("x-kubernetes-preserve-unknown-fields"):
        return _object({**node, "properties": {}}, resolve, custom)
    return AnySchema(kind)


def _object(node: Node, resolve: Resolver, custom: bool) -> ObjectSchema:
    properties = node.get("properties", {})

    def load() -> Fields:
        fields = {name: build(child, resolve, custom=custom) for name, child in properties.items()}
        if custom and node.get("x-kubernetes-embedded-resource"):
            text = build({"type": "string"}, resolve)
            fields = {"apiVersion": text, "kind": text, **fields, "metadata": resolve("meta.v1.ObjectMeta")}
        return fields

    schema = ObjectSchema(load)
    schema.required = tuple(node.get("required", ()))
    if node.get("x-kubernetes-embedded-resource"):
        schema.required = tuple(dict.fromkeys((*schema.required, "apiVersion", "kind")))
    return schema


def _finished(schema: Schema, node: Node, custom: bool) -> Schema:
    schema.custom = custom
    schema.format = node.get("format", "")
    schema.enum = tuple(node.get("enum", ()))
    schema.nullable = bool(node.get("nullable"))
    schema.embedded = bool(node.get("x-kubernetes-embedded-resource"))
    schema.default_value = node.get("default")
    if node.get("x-kubernetes-preserve-unknown-fields"):
        schema.preserve_unknown = True
    _extend(schema, node)
    if custom:
        schema.checks = checks_of(node)
    checked = schema.format and not (
        schema.type == "number" or (schema.type == "string" and schema.format == "password")
    )
    schema.plain = schema.flat and schema.python is not None and not (checked or schema.enum or schema.checks)
    return schema


def _extend(schema: Schema, node: Node) -> None:
    schema.list_type = node.get("x-kubernetes-list-type", schema.list_type)
    schema.list_map_keys = tuple(node.get("x-kubernetes-list-map-keys", schema.list_map_keys))
    schema.map_type = node.get("x-kubernetes-map-type", schema.map_type)
    schema.patch_merge_key = node.get("x-kubernetes-patch-merge-key", schema.patch_merge_key)
    strategy = node.get("x-kubernetes-patch-strategy")
    if strategy is not None:
        schema.patch_strategy = tuple(strategy.split(","))


def _with_extensions(target: Schema, node: Node) -> Schema:
    """A reference may say how its place is patched; everything else is the target's."""
    if len(node) == 1:
        return target
    if isinstance(target, ObjectSchema):
        target.fields()  # Before the copy, so that both share the children.
    place = copy(target)
    _extend(place, node)
    place.default_value = node.get("default", place.default_value)
    return place

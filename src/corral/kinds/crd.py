"""CustomResourceDefinitions: from the object to kinds, and what is wrong with one.

A definition becomes one `Kind` for each served version. Its schema is the structural schema of the CRD with `metadata`
taken from the built-in definitions; its strategy is generic, plus CEL rules (`schema/cel.py`).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from corral.kinds.kind import Column, Kind
from corral.kinds.schema import Schema, build, cel
from corral.kinds.schema.causes import duplicate, forbidden, invalid, not_supported, required
from corral.kinds.schema.checks import python_pattern
from corral.kinds.schema.shapes import ObjectSchema
from corral.kinds.status import Cause
from corral.kinds.types import Obj, Resource
from corral.kinds.validation import (
    dns_1035_label,
    dns_label,
    dns_subdomain,
    validate_metadata,
    validate_metadata_update,
)

ESTABLISHED: Final = "Established"
NAMES_ACCEPTED: Final = "NamesAccepted"
_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_KEPT: Final = ("managedFields", "resourceVersion")
_UNSTRUCTURAL: Final = ("definitions", "dependencies", "patternProperties", "additionalItems", "$ref", "id")


class Known(Protocol):
    """What `conditions` asks of a registry."""

    def names_in(self, group: str) -> Mapping[str, str]:
        """Every plural, singular, short name and kind in use in a group -> the name of the CRD that has it."""


@dataclass(frozen=True, slots=True)
class CustomStrategy:
    """What all custom kinds do: generation, status, metadata, CEL rules with the old object."""

    namespaced: bool
    has_status: bool
    schema: Schema
    rules: cel.Rules | None

    def prepare_create(self, obj: Obj) -> None:
        """Count from generation 1; status comes later where it is a subresource."""
        if self.has_status:
            obj.pop("status", None)
        obj.setdefault("metadata", {})["generation"] = 1

    def prepare_update(self, obj: Obj, old: Obj) -> None:
        """Carry over status; raise the generation if anything but metadata (and status) changed."""
        if self.has_status:
            if "status" in old:
                obj["status"] = old["status"]
            else:
                obj.pop("status", None)
        metadata, before = obj.setdefault("metadata", {}), old["metadata"]
        for name in ("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "uid"):
            if name in before:
                metadata[name] = before[name]
            else:
                metadata.pop(name, None)
        if any(obj.get(key) != old.get(key) for key in obj.keys() | old.keys() if key != "metadata"):
            metadata["generation"] = before.get("generation", 0) + 1

    def prepare_status(self, obj: Obj, old: Obj) -> None:
        """Leave of the new object only its status."""
        status, given = obj.get("status"), obj.get("metadata", {})
        metadata = {**old["metadata"], **{name: given[name] for name in _KEPT if name in given}}
        obj.clear()
        obj.update({key: value for key, value in old.items() if key != "status"})
        obj["metadata"] = metadata
        if status is not None:
            obj["status"] = status

    def validate(self, obj: Obj, old: Obj | None) -> Sequence[Cause]:
        """The rules of object metadata, then CEL."""
        causes = validate_metadata(obj, namespaced=self.namespaced)
        if old is not None:
            causes += validate_metadata_update(obj, old)
        if self.rules is not None and not causes:
            causes += self.rules.check(obj, old)
        return causes


def schema_of(openapi: Mapping[str, Any], resolve: Callable[[str], Schema]) -> Schema:
    """The schema of a version: its structural schema, with the fields that every object has."""
    node = {"type": "object", "properties": {}, **openapi}
    schema = build(node, resolve, custom=True)
    if not isinstance(schema, ObjectSchema):
        schema = build({**node, "properties": node.get("properties") or {}}, resolve, custom=True)
    text = build({"type": "string"}, resolve)
    inner = schema.fields if isinstance(schema, ObjectSchema) else dict
    root = ObjectSchema(
        lambda: {**inner(), "apiVersion": text, "kind": text, "metadata": resolve("meta.v1.ObjectMeta")}
    )
    root.custom = True
    root.preserve_unknown = schema.preserve_unknown
    root.checks = schema.checks
    if isinstance(schema, ObjectSchema):
        root.required = schema.required
    return root


def kinds_of(crd: Obj, resolve: Callable[[str], Schema]) -> Iterator[Kind]:
    """One kind for each served version.

    Raises:
        CelUnavailable: the CRD has CEL rules and there is no CEL library.
        CelInvalid: a rule does not compile.
    """
    spec = crd["spec"]
    names = spec["names"]
    namespaced = spec["scope"] == "Namespaced"
    stored = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        openapi = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        if spec.get("preserveUnknownFields"):
            openapi = {**openapi, "x-kubernetes-preserve-unknown-fields": True}
        schema = schema_of(openapi, resolve)
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale") or {}
        has_status = "status" in subresources
        yield Kind(
            resource=Resource(spec["group"], version["name"], names["plural"], names["kind"], namespaced),
            singular=names.get("singular") or names["kind"].lower(),
            list_kind=names.get("listKind") or names["kind"] + "List",
            strategy=CustomStrategy(namespaced, has_status, schema, cel.rules_of(openapi)),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=frozenset(subresources),
            columns=tuple(_columns(version)),
            stored_as=f"{spec['group']}/{stored}",
            selectable_fields=tuple(field["jsonPath"].lstrip(".") for field in version.get("selectableFields") or ()),
            scale_paths=_scale_paths(scale),
            schema=schema,
            custom=True,
        )


def _scale_paths(scale: Mapping[str, str]) -> dict[str, str]:
    names = (("spec", "specReplicasPath"), ("status", "statusReplicasPath"), ("selector", "labelSelectorPath"))
    return {short: scale[name].lstrip(".") for short, name in names if scale.get(name)}


def _columns(version: Mapping[str, Any]) -> Iterator[Column]:
    for column in version.get("additionalPrinterColumns") or ():
        yield Column(
            name=column["name"],
            type=column.get("type", "string"),
            format=column.get("format", ""),
            priority=column.get("priority", 0),
            description=column.get("description", ""),
            path=column.get("jsonPath", ""),
        )


def prepare_definition(crd: Obj) -> None:
    """What a new CRD remembers: the version that its objects are stored in."""
    versions = (crd.get("spec") or {}).get("versions") or ()
    crd["status"] = {
        "storedVersions": [version.get("name") for version in versions if version.get("storage")],
    }


def conditions(crd: Obj, registry: Known) -> list[Obj]:
    """`NamesAccepted` and `Established` of a CRD as they should be now, without times.

    Names conflict if another CRD, or a built-in kind, of the same group has one of them.
    """
    spec = crd["spec"]
    names = spec["names"]
    taken = registry.names_in(spec["group"])
    own = crd["metadata"].get("name", "")
    fields = ("plural", "singular", "kind", "listKind")
    wanted = [(field, names.get(field)) for field in fields] + [
        ("shortNames", name) for name in names.get("shortNames") or ()
    ]
    conflicts = [(field, name) for field, name in wanted if name and taken.get(name, own) != own]
    if not conflicts:
        return [
            _condition(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found"),
            _condition(ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted"),
        ]
    field, name = conflicts[0]
    reason = field[0].upper() + field[1:] + "Conflict"
    message = f'"{name}" is already in use by {taken[name]}'
    return [
        _condition(NAMES_ACCEPTED, "False", reason, message),
        _condition(ESTABLISHED, "False", "NotAccepted", "not all names are accepted"),
    ]


def names_accepted(found: Sequence[Obj]) -> bool:
    """Whether no name of the CRD conflicts."""
    return any(condition["type"] == NAMES_ACCEPTED and condition["status"] == "True" for condition in found)


def not_served(found: Sequence[Obj], why: str) -> list[Obj]:
    """The conditions of a CRD whose names are accepted but that cannot be served."""
    kept = [condition for condition in found if condition["type"] != ESTABLISHED]
    return [*kept, _condition(ESTABLISHED, "False", "NotServed", why)]


def _condition(kind: str, status: str, reason: str, message: str) -> Obj:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def check_definition(crd: Obj, old: Obj | None) -> list[Cause]:
    """What is wrong with a CRD: names, versions, and schemas that are not structural."""
    spec: Mapping[str, Any] = crd.get("spec") or {}
    names: Mapping[str, Any] = spec.get("names") or {}
    causes = _check_names(crd, spec, names)
    causes += _check_versions(spec.get("versions") or ())
    if old is not None:
        before = old.get("spec") or {}
        for field in ("group", "scope"):
            if spec.get(field) != before.get(field):
                causes.append(invalid(f"spec.{field}", spec.get(field), "field is immutable"))
        for field in ("plural", "kind"):
            had = (before.get("names") or {}).get(field)
            if names.get(field) != had:
                causes.append(invalid(f"spec.names.{field}", names.get(field), "field is immutable"))
        causes += _check_stored(spec, old.get("status") or {})
    conversion = spec.get("conversion") or {}
    if conversion.get("strategy") == "Webhook":
        why = "conversion webhooks are not supported by this server: use strategy None"
        causes.append(forbidden("spec.conversion.strategy", why))
    return causes


def _check_stored(spec: Mapping[str, Any], status: Mapping[str, Any]) -> list[Cause]:
    known = {version.get("name") for version in spec.get("versions") or ()}
    return [
        invalid("status.storedVersions[0]", name, "missing from spec.versions; must remain in spec.versions")
        for name in status.get("storedVersions") or ()
        if name not in known
    ]


def _check_names(crd: Obj, spec: Mapping[str, Any], names: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    group, plural = spec.get("group", ""), names.get("plural", "")
    wanted = f"{plural}.{group}"
    name = crd["metadata"].get("name", "")
    if name != wanted:
        causes.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if "." not in group:
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    causes += [invalid("spec.group", group, why) for why in dns_subdomain(group)]
    labels = [("plural", plural), ("singular", names.get("singular", ""))]
    labels += [(f"shortNames[{index}]", short) for index, short in enumerate(names.get("shortNames") or ())]
    for field, text in labels:
        if text:
            causes += [invalid(f"spec.names.{field}", text, why) for why in dns_1035_label(text)]
    for field in ("kind", "listKind"):
        text = names.get(field, "")
        if text:
            why_not = dns_1035_label(text.lower())
            causes += [
                invalid(f"spec.names.{field}", text, f"may have mixed case, but should otherwise match: {why}")
                for why in why_not
            ]
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        causes.append(invalid("spec.names.listKind", names["listKind"], "kind and listKind may not be the same"))
    return causes


def _check_versions(versions: Sequence[Mapping[str, Any]]) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}]"
        name = version.get("name", "")
        causes += [invalid(f"{where}.name", name, why) for why in dns_label(name)]
        if name in seen:
            causes.append(duplicate(f"{where}.name", name))
        seen.add(name)
        openapi = (version.get("schema") or {}).get("openAPIV3Schema")
        if openapi is None:
            causes.append(required(f"{where}.schema.openAPIV3Schema", "schemas are required"))
        else:
            causes += check_structural(openapi, f"{where}.schema.openAPIV3Schema")
        causes += _check_columns(version, where)
    if sum(bool(version.get("storage")) for version in versions) != 1:
        causes.append(invalid("spec.versions", list(seen), "must have exactly one version marked as storage version"))
    return causes


def _check_columns(version: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{path}.additionalPrinterColumns[{index}]"
        if column.get("type") and column["type"] not in _COLUMN_TYPES:
            causes.append(not_supported(f"{where}.type", column["type"], _COLUMN_TYPES))
        if column.get("jsonPath") and not column["jsonPath"].startswith("."):
            causes.append(
                invalid(f"{where}.jsonPath", column["jsonPath"], "must be a simple json path starting with .")
            )
    return causes


def check_structural(node: Mapping[str, Any], path: str, *, root: bool = True) -> list[Cause]:
    """Whether a schema is structural (KEP-1693), and its CEL rules compile."""
    causes: list[Cause] = []
    if root and node.get("type") != "object":
        causes.append(invalid(f"{path}.type", node.get("type", ""), "must be object at the root"))
    kind = node.get("type", "")
    typed = kind or node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string")
    if not typed:
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    elif kind and kind not in _TYPES:
        causes.append(not_supported(f"{path}.type", kind, _TYPES))
    causes += [forbidden(f"{path}.{name}", f"{name} is not supported") for name in _UNSTRUCTURAL if node.get(name)]
    if node.get("properties") and node.get("additionalProperties"):
        causes.append(
            forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
        )
    if node.get("additionalProperties") is False:
        causes.append(forbidden(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    causes += _check_list(node, path) + _check_pattern(node, path)
    causes += cel.check_rules(node, path)
    for name, child in _children(node):
        causes += check_structural(child, f"{path}.{name}", root=False)
    return causes


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, child in (node.get("properties") or {}).items():
        yield f"properties[{name}]", child
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), Mapping):
            yield name, node[name]


def _check_list(node: Mapping[str, Any], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if node.get("type") == "array" and not isinstance(node.get("items"), Mapping):
        causes.append(required(f"{path}.items", "must be specified"))
    kind = node.get("x-kubernetes-list-type")
    keys = node.get("x-kubernetes-list-map-keys") or ()
    if kind not in (None, "atomic", "set", "map"):
        causes.append(not_supported(f"{path}.x-kubernetes-list-type", kind, ("atomic", "map", "set")))
    if kind == "map":
        if not keys:
            why = "must not be empty if x-kubernetes-list-type is map"
            causes.append(required(f"{path}.x-kubernetes-list-map-keys", why))
        known = (node.get("items") or {}).get("properties") or {}
        for index, key in enumerate(keys):
            if key not in known:
                why = "entries must all be names of item properties"
                causes.append(invalid(f"{path}.x-kubernetes-list-map-keys[{index}]", key, why))
    return causes


def _check_pattern(node: Mapping[str, Any], path: str) -> list[Cause]:
    pattern = node.get("pattern")
    if pattern:
        try:
            re.compile(python_pattern(pattern))
        except re.error as error:
            return [invalid(f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {error}")]
    return []

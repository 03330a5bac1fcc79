"""The OpenAPI documents that clients read: `/openapi/v2`, the index `/openapi/v3` and one v3 document a group version.

kubectl reads them for `explain`, for client-side validation, for the merge keys of client-side apply, and to find out
whether PATCH takes `fieldValidation` and `dryRun`. Everything is made from the distilled definitions and the CRDs when
it is asked for. Prose comes from the package `kubernetes-validate`, if it is installed (`corral[explain]`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, Final

from corral.kinds.builtin.definitions import definitions, long_name
from corral.kinds.kind import Kind
from corral.kinds.openapi_paths import paths_of
from corral.kinds.registry import Registry
from corral.kinds.types import Obj

VERSION: Final = "v1.36.0"
_PROSE: Final = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_COMMON: Final = ("meta.v1.DeleteOptions", "meta.v1.Status", "meta.v1.WatchEvent", "meta.v1.Patch")
_V2_KEPT: Final = frozenset(
    ("type", "format", "description", "properties", "items", "additionalProperties", "required", "enum", "default")
)
_INT_OR_STRING: Final = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
_QUANTITY: Final = {"oneOf": [{"type": "string"}, {"type": "number"}]}

Prose = Mapping[str, Any]


def openapi_v2(registry: Registry) -> Obj:
    """The whole API in one Swagger 2 document."""
    prose = _prose()
    known = definitions()
    kinds = tuple(registry.kinds())
    wanted = _closure([*_COMMON, *_used(registry, kinds)])
    models = {long_name(name): _definition(name, known.raw(name), "#/definitions/", prose, v3=False) for name in wanted}
    paths: Obj = {}
    for kind in kinds:
        if kind.custom:
            models |= _custom_models(registry, kind, "#/definitions/", v3=False)
        paths |= paths_of(kind, model_name(kind), v3=False)
    _add_kinds_of_common(registry, models)
    return {"swagger": "2.0", "info": _info(), "paths": paths, "definitions": models}


def openapi_v3_index(registry: Registry) -> Obj:
    """Where the document of each group version is; the hash in its URL changes when the document would."""
    paths: Obj = {}
    for group, versions in registry.groups().items():
        for version in versions:
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(registry, group, version)}"}
    return {"paths": paths}


def openapi_v3(registry: Registry, group: str, version: str) -> Obj:
    """The OpenAPI 3 document of one group version, with every schema it refers to."""
    prose = _prose()
    known = definitions()
    kinds = tuple(kind for kind in registry.kinds() if (kind.resource.group, kind.resource.version) == (group, version))
    base = "#/components/schemas/"
    wanted = _closure([*_COMMON, *_used(registry, kinds)])
    models = {long_name(name): _definition(name, known.raw(name), base, prose, v3=True) for name in wanted}
    paths: Obj = {}
    for kind in kinds:
        if kind.custom:
            models |= _custom_models(registry, kind, base, v3=True)
        paths |= paths_of(kind, model_name(kind), v3=True)
    _add_kinds_of_common(registry, models)
    return {"openapi": "3.0.0", "info": _info(), "paths": paths, "components": {"schemas": models}}


def model_name(kind: Kind) -> str:
    """The published name of a kind's schema; a CRD's group is reversed as Java packages are."""
    if not kind.custom:
        return long_name(kind.schema.definition)
    resource = kind.resource
    return ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])


def _info() -> Obj:
    return {"title": "Kubernetes", "version": VERSION}


def _hash(registry: Registry, group: str, version: str) -> str:
    about: list[Any] = [VERSION, find_spec("kubernetes_validate") is not None]
    for kind in registry.kinds():
        if (kind.resource.group, kind.resource.version) == (group, version):
            about.append([kind.resource.plural, sorted(kind.subresources), registry.openapi_of(kind)])
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest().upper()


def _used(registry: Registry, kinds: tuple[Kind, ...]) -> Iterator[str]:
    known = set(definitions().names())
    for kind in kinds:
        if kind.custom:
            yield "meta.v1.ObjectMeta"
            yield "meta.v1.ListMeta"
            continue
        name = kind.schema.definition
        yield name
        if f"{name}List" in known:
            yield f"{name}List"
        if "scale" in kind.subresources:
            yield "autoscaling.v1.Scale"
        if "eviction" in kind.subresources:
            yield "policy.v1.Eviction"
        if "binding" in kind.subresources:
            yield "core.v1.Binding"
        if "token" in kind.subresources:
            yield "authentication.v1.TokenRequest"


def _closure(names: list[str]) -> list[str]:
    known = definitions()
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name not in seen:
            seen.add(name)
            names.extend(_references(known.raw(name)))
    return sorted(seen)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for key in ("items", "additionalProperties"):
            yield from _references(node.get(key))
        for child in (node.get("properties") or {}).values():
            yield from _references(child)


def _definition(name: str, node: Mapping[str, Any], base: str, prose: Prose, *, v3: bool) -> Obj:
    if name == "api.resource.Quantity":
        result: Obj = dict(_QUANTITY) if v3 else {"type": "string"}
    elif name == "util.intstr.IntOrString":
        result = dict(_INT_OR_STRING) if v3 else {"type": "string", "format": "int-or-string"}
    elif name in ("apiextensions.v1.JSON", "runtime.RawExtension", "meta.v1.FieldsV1"):
        result = {key: value for key, value in node.items() if key == "type"}
    else:
        result = _published(node, base, v3=v3)
    about = prose.get(long_name(name))
    if about:
        _add_prose(result, about)
    return result


def _published(node: Mapping[str, Any], base: str, *, v3: bool) -> Obj:
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        reference = {"$ref": base + long_name(node["$ref"])}
        # OpenAPI 3 ignores what stands next to a reference.
        return {"allOf": [reference], **rest} if v3 else {**reference, **rest}
    result: Obj = {}
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _published(child, base, v3=v3) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = _published(value, base, v3=v3)
        elif key == "zero":
            result["required"] = [*result.get("required", ()), *value]
        elif key == "required":
            result["required"] = [*value, *result.get("required", ())]
        else:
            result[key] = value
    return result


def _prose() -> Prose:
    if find_spec("kubernetes_validate") is None:
        return {}
    text = (files("kubernetes_validate") / _PROSE).read_bytes()
    found: Prose = json.loads(text)["$defs"]
    return found


def _add_prose(node: Obj, about: Mapping[str, Any]) -> None:
    if about.get("description"):
        node["description"] = about["description"]
    for name, child in (node.get("properties") or {}).items():
        told = (about.get("properties") or {}).get(name)
        if told and told.get("description"):
            child["description"] = told["description"]


def _add_kinds_of_common(registry: Registry, models: Obj) -> None:
    """DeleteOptions and WatchEvent are of every group version."""
    places = sorted({(kind.resource.group, kind.resource.version) for kind in registry.kinds()})
    for kind in ("DeleteOptions", "WatchEvent"):
        model = models[long_name(f"meta.v1.{kind}")]
        model["x-kubernetes-group-version-kind"] = [
            {"group": group, "kind": kind, "version": version} for group, version in places
        ]
    status = models[long_name("meta.v1.Status")]
    status["x-kubernetes-group-version-kind"] = [{"group": "", "kind": "Status", "version": "v1"}]


def _custom_models(registry: Registry, kind: Kind, base: str, *, v3: bool) -> Obj:
    resource = kind.resource
    name = model_name(kind)
    node = dict(registry.openapi_of(kind)) if v3 else _as_v2(registry.openapi_of(kind))
    metadata = {"$ref": base + long_name("meta.v1.ObjectMeta")}
    text = {"type": "string"}
    node["properties"] = {
        **(node.get("properties") or {}),
        "apiVersion": text,
        "kind": text,
        "metadata": {"allOf": [metadata]} if v3 else metadata,
    }
    node["x-kubernetes-group-version-kind"] = [_gvk(resource.group, resource.version, resource.kind)]
    node.setdefault("type", "object")
    list_metadata = {"$ref": base + long_name("meta.v1.ListMeta")}
    many = {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text,
            "kind": text,
            "metadata": {"allOf": [list_metadata]} if v3 else list_metadata,
            "items": {"type": "array", "items": {"$ref": base + name}},
        },
        "x-kubernetes-group-version-kind": [_gvk(resource.group, resource.version, kind.list_kind)],
    }
    return {name: node, f"{name}List": many}


def _gvk(group: str, version: str, kind: str) -> Obj:
    return {"group": group, "kind": kind, "version": version}


def _as_v2(node: Mapping[str, Any]) -> Obj:
    """What of an OpenAPI 3 schema Swagger 2 can say."""
    result: Obj = {}
    loose = (
        node.get("nullable")
        or node.get("x-kubernetes-int-or-string")
        or node.get("x-kubernetes-preserve-unknown-fields")
    )
    for key, value in node.items():
        if key == "properties":
            result[key] = {name: _as_v2(child) for name, child in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            result[key] = _as_v2(value)
        elif (key in _V2_KEPT or key.startswith("x-kubernetes-")) and not (key == "type" and loose):
            result[key] = value
    return result

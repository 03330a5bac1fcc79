"""Small schemas for tests, in OpenAPI's words, with the attributes that patches and server-side apply look at."""

from __future__ import annotations

from typing import Any

from corral.kinds.types import Obj


class SmallSchema:
    """A schema node over an OpenAPI mapping."""

    def __init__(self, openapi: Obj, *, custom: bool = False) -> None:
        self._openapi = openapi
        self.custom = custom
        self.type: str = openapi.get("type", "")
        self.list_type: str = openapi.get("x-kubernetes-list-type", "")
        self.list_map_keys: tuple[str, ...] = tuple(openapi.get("x-kubernetes-list-map-keys", ()))
        self.map_type: str = openapi.get("x-kubernetes-map-type", "")
        self.patch_strategy: tuple[str, ...] = tuple(openapi.get("x-kubernetes-patch-strategy", "").split(","))
        self.patch_merge_key: str = openapi.get("x-kubernetes-patch-merge-key", "")
        self.preserve_unknown: bool = openapi.get("x-kubernetes-preserve-unknown-fields", False)
        self.int_or_string = False
        self.default_value: Any = openapi.get("default")
        self._fields = {name: SmallSchema(p, custom=custom) for name, p in openapi.get("properties", {}).items()}
        values = openapi.get("additionalProperties")
        self._values = SmallSchema(values, custom=custom) if values is not None else None
        items = openapi.get("items")
        self._items = SmallSchema(items, custom=custom) if items is not None else None

    def field(self, name: str) -> SmallSchema | None:
        return self._fields.get(name, self._values)

    def default_into(self, value: Any) -> Any:
        for name, child in self._fields.items():
            if child.default_value is not None:
                value.setdefault(name, child.default_value)
        return value

    @property
    def items(self) -> SmallSchema | None:
        return self._items


TEXT: Obj = {"type": "string"}
NUMBER: Obj = {"type": "integer"}
TEXTS: Obj = {"type": "object", "additionalProperties": TEXT}


def mapping(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


def keyed(item: Obj, *keys: str) -> Obj:
    """A list map, patched by its first key."""
    return {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": list(keys),
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": keys[0],
    }


def set_of(item: Obj) -> Obj:
    return {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "set",
        "x-kubernetes-patch-strategy": "merge",
    }


PORT = mapping(containerPort=NUMBER, protocol={**TEXT, "default": "TCP"}, name=TEXT)
ENV = mapping(name=TEXT, value=TEXT)
CONTAINER = mapping(
    name=TEXT,
    image=TEXT,
    command={"type": "array", "items": TEXT},
    ports=keyed(PORT, "containerPort", "protocol"),
    env=keyed(ENV, "name"),
    resources=mapping(limits=TEXTS, requests=TEXTS),
)
METADATA = mapping(
    name=TEXT,
    namespace=TEXT,
    uid=TEXT,
    resourceVersion=TEXT,
    generation=NUMBER,
    creationTimestamp=TEXT,
    labels=TEXTS,
    annotations=TEXTS,
    finalizers=set_of(TEXT),
    managedFields={"type": "array", "items": {"type": "object"}},
)
POD_SPEC = mapping(
    containers=keyed(CONTAINER, "name"),
    nodeSelector={**TEXTS, "x-kubernetes-map-type": "atomic"},
    tolerations={"type": "array", "items": mapping(key=TEXT), "x-kubernetes-list-type": "atomic"},
    imagePullSecrets=keyed(mapping(name=TEXT), "name"),
)
CONDITION = mapping(type=TEXT, status=TEXT, reason=TEXT)
DEPLOYMENT_OPENAPI = mapping(
    apiVersion=TEXT,
    kind=TEXT,
    metadata=METADATA,
    spec=mapping(
        replicas=NUMBER,
        selector={**mapping(matchLabels=TEXTS), "x-kubernetes-map-type": "atomic"},
        strategy={
            **mapping(type=TEXT, rollingUpdate=mapping(maxSurge=NUMBER, maxUnavailable=NUMBER)),
            "x-kubernetes-patch-strategy": "retainKeys",
        },
        template=mapping(metadata=METADATA, spec=POD_SPEC),
    ),
    status=mapping(replicas=NUMBER, conditions=keyed(CONDITION, "type")),
)
DEPLOYMENT = SmallSchema(DEPLOYMENT_OPENAPI)
CONFIG_MAP = SmallSchema(
    mapping(apiVersion=TEXT, kind=TEXT, metadata=METADATA, data=TEXTS, immutable={"type": "boolean"})
)
WIDGET = SmallSchema(
    mapping(
        apiVersion=TEXT,
        kind=TEXT,
        metadata=METADATA,
        spec={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        status=mapping(phase=TEXT),
    ),
    custom=True,
)

"""The distilled definitions: read once as text, parsed one by one when first referred to, shared ever after."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from corral.kinds.builtin.defaults import CONSTANTS, HOOKS
from corral.kinds.schema import Schema, build
from corral.kinds.schema.shapes import ObjectSchema

_LONG = (
    ("meta.", "io.k8s.apimachinery.pkg.apis."),
    ("apiextensions.", "io.k8s.apiextensions-apiserver.pkg.apis."),
    ("apiregistration.", "io.k8s.kube-aggregator.pkg.apis."),
    ("api.resource.", "io.k8s.apimachinery.pkg."),
    ("util.", "io.k8s.apimachinery.pkg."),
    ("runtime.", "io.k8s.apimachinery.pkg."),
    ("version.", "io.k8s.apimachinery.pkg."),
)


def long_name(name: str) -> str:
    """The published name of a definition: `core.v1.Pod` -> `io.k8s.api.core.v1.Pod`."""
    for start, prefix in _LONG:
        if name.startswith(start):
            return prefix + name
    return f"io.k8s.api.{name}"


class Definitions:
    """Short name -> definition."""

    def __init__(self, text: bytes) -> None:
        # One definition a line between the braces: `"core.v1.Pod":{...},`.
        entries = (line.rstrip(b",").split(b":", 1) for line in text.splitlines()[1:-1])
        self._lines = {name.strip(b'"'): node for name, node in entries}
        self._schemas: dict[str, Schema] = {}

    def names(self) -> Iterator[str]:
        """All short names, sorted."""
        return (name.decode() for name in self._lines)

    def raw(self, name: str) -> Mapping[str, Any]:
        """The distilled OpenAPI node, parsed anew.

        Raises:
            KeyError: there is no such definition.
        """
        node: dict[str, Any] = json.loads(self._lines[name.encode()])
        return node

    def schema(self, name: str) -> Schema:
        """The one schema of a definition.

        Raises:
            KeyError: there is no such definition.
        """
        schema = self._schemas.get(name)
        if schema is None:
            schema = self._schemas[name] = build(self.raw(name), self.schema)
            schema.definition = name
            if isinstance(schema, ObjectSchema):
                schema.set_constants(CONSTANTS.get(name, {}))
                schema.hook = HOOKS.get(name)
        return schema

    def root(self, name: str) -> Schema:
        """The schema of a kind's definition, parsed when first looked into."""
        schema = self._schemas.get(name)
        if schema is None:
            schema = self._schemas[name] = self._lazy(name)
        return schema

    def _lazy(self, name: str) -> ObjectSchema:
        def load() -> Mapping[str, Schema]:
            node = self.raw(name)
            schema.required = tuple(field for field in node.get("required", ()) if field != "metadata")
            return {field: build(child, self.schema) for field, child in node.get("properties", {}).items()}

        schema = ObjectSchema(load)
        schema.definition = name
        schema.set_constants(CONSTANTS.get(name, {}))
        schema.hook = HOOKS.get(name)
        return schema


@cache
def definitions() -> Definitions:
    """The definitions of this Corral."""
    return Definitions((files(__package__) / "data" / "definitions.json").read_bytes())

"""Distil Kubernetes' published schemas into Corral's compact data file.

    .venv/bin/python tools/distill_schemas.py

Reads the JSON schemas of the PyPI package `kubernetes-validate` (1.36) and writes
`src/corral/kinds/builtin/data/definitions.json`: a JSON object with one definition a line, sorted, without prose, so
that a reader can find a line and parse it alone. What the published schemas leave out (enumerations of the Go types)
and where they say more than the server enforces (`required` fields that Go fills with zero values) comes from
`schema_facts.py` next to this file; `required` names that are documented but not enforced go to `zero`.
"""

import importlib.resources
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schema_facts import ENUMS, ZERO

VERSION = "v1.36.0-local"
TARGET = Path(__file__).parents[1] / "src/corral/kinds/builtin/data/definitions.json"
PREFIXES = (
    "io.k8s.apimachinery.pkg.apis.",
    "io.k8s.apiextensions-apiserver.pkg.apis.",
    "io.k8s.kube-aggregator.pkg.apis.",
    "io.k8s.apimachinery.pkg.",
    "io.k8s.api.",
)
DROPPED = {"description", "x-kubernetes-unions", "default"}
OVERRIDES: Mapping[str, dict[str, Any]] = {
    "api.resource.Quantity": {"type": "string", "format": "quantity"},
    "util.intstr.IntOrString": {"type": "string", "format": "int-or-string"},
    "runtime.RawExtension": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "meta.v1.FieldsV1": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "meta.v1.MicroTime": {"type": "string", "format": "date-time"},
}


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` -> `core.v1.Pod`; corral.kinds.builtin.definitions knows the way back."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def node(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A schema node without prose, without `null` in its types, and with short references."""
    result: dict[str, Any] = {}
    for key, value in raw.items():
        if key in DROPPED:
            continue
        if key == "$ref":
            result[key] = short(value.rsplit("/", 1)[1])
        elif key == "type" and isinstance(value, list):
            result[key] = next(name for name in value if name != "null")
        elif key == "properties":
            result[key] = {name: field(name, child) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = node(value)
        else:
            result[key] = value
    return result


def field(name: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """A property; the enumerations of `apiVersion` and `kind` are the package's own addition."""
    child = node(raw)
    if name in ("apiVersion", "kind"):
        child.pop("enum", None)
    return child


def references(raw: Any, *, skip_status: bool = False) -> Iterator[str]:
    """Every definition that a node refers to."""
    if isinstance(raw, dict):
        if "$ref" in raw:
            yield raw["$ref"]
        for key, value in raw.get("properties", {}).items():
            if not (skip_status and key == "status"):
                yield from references(value)
        for key in ("items", "additionalProperties"):
            yield from references(raw.get(key))


def reachable(definitions: Mapping[str, dict[str, Any]]) -> set[str]:
    """Definitions that a client writes, that is those reachable without going through a kind's `status`."""
    seen: set[str] = set()
    todo = [name for name, raw in definitions.items() if "x-kubernetes-group-version-kind" in raw]
    roots = set(todo)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        todo += references(definitions[name], skip_status=name in roots)
    return seen


def add_facts(definitions: Mapping[str, dict[str, Any]]) -> None:
    """Complete the definitions from `schema_facts`; a fact about nothing is an error."""
    for path, values in ENUMS.items():
        name, _, key = path.rpartition(".")
        child = definitions[name]["properties"][key]
        (child["items"] if child.get("type") == "array" else child)["enum"] = list(values)
    written = reachable(definitions)
    for name, raw in definitions.items():
        required = raw.get("required", [])
        zero = [key for key in required if name not in written or f"{name}.{key}" in ZERO]
        if zero:
            raw["zero"] = zero
            raw["required"] = [key for key in required if key not in zero]
            if not raw["required"]:
                del raw["required"]


def distil(published: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Short name -> compact definition."""
    definitions = {short(name): node(raw) for name, raw in published.items()}
    for name, raw in OVERRIDES.items():
        definitions[name] = dict(raw)
    for name, raw in definitions.items():
        if name.startswith("meta.v1.") and "x-kubernetes-group-version-kind" in raw:
            del raw["x-kubernetes-group-version-kind"]
    add_facts(definitions)
    return definitions


def main() -> int:
    """Write the data file."""
    package = importlib.resources.files("kubernetes_validate")
    source = package / "kubernetes-json-schema" / VERSION / "_definitions.json"
    definitions = distil(json.loads(source.read_text())["$defs"])
    lines = [f'"{name}":{json.dumps(definitions[name], separators=(",", ":"))}' for name in sorted(definitions)]
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(lines)} definitions, {TARGET.stat().st_size / 1024:.0f} KiB in {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

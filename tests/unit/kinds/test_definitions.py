"""The distilled data: complete, without prose, and every table speaks of things that are there."""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from corral.kinds.builtin import defaults, strategies
from corral.kinds.builtin.definitions import definitions, long_name
from corral.kinds.builtin.resources import rows


def keys(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "properties":
                for child in value.values():
                    yield from keys(child)
            else:
                yield key
                yield from keys(value)
    elif isinstance(node, list):
        for child in node:
            yield from keys(child)


def test_the_file_is_json_that_can_be_read_line_by_line_and_has_no_prose() -> None:
    text = (files("corral.kinds.builtin") / "data" / "definitions.json").read_text()
    everything = json.loads(text)
    known = definitions()
    assert list(known.names()) == sorted(everything)
    assert known.raw("core.v1.Pod") == everything["core.v1.Pod"]
    assert "description" not in set(keys(list(everything.values())))


def test_rows_and_tables_name_definitions_and_fields_that_exist() -> None:
    known = definitions()
    names = set(known.names())
    assert {row.definition for row in rows()} <= names
    assert strategies._RULES.keys() <= {row.definition for row in rows()}
    assert defaults.HOOKS.keys() <= names
    for name, constants in defaults.CONSTANTS.items():
        assert constants.keys() <= known.raw(name)["properties"].keys(), name


def test_names_go_back_to_the_published_ones() -> None:
    assert long_name("core.v1.Pod") == "io.k8s.api.core.v1.Pod"
    assert long_name("meta.v1.ObjectMeta") == "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert long_name("api.resource.Quantity") == "io.k8s.apimachinery.pkg.api.resource.Quantity"
    assert long_name("resource.v1.ResourceClaim") == "io.k8s.api.resource.v1.ResourceClaim"

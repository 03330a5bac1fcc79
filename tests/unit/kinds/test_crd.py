"""Custom kinds: structural schemas, value constraints, CEL."""

from copy import deepcopy
from typing import Any

import pytest

from corral.kinds.registry import Registry
from corral.kinds.schema import cel
from corral.kinds.types import Obj

from .conftest import Create
from .samples import crd, meta

SPEC: Obj = {
    "type": "object",
    "required": ["cron"],
    "properties": {
        "cron": {"type": "string", "pattern": r"^(\d+|\*)$", "maxLength": 4},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "maybe": {"type": "string", "nullable": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "maxItems": 3},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "size": {"type": "integer", "default": 3}},
            },
        },
        "either": {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 2}]},
        "when": {"type": "string", "format": "date-time"},
    },
}
SHOULD_MATCH = r"spec.cron in body should match '^(\d+|\*)$'"
RULES = [
    {"rule": "self.replicas < 9 || self.mode == 'a'", "message": "too many", "fieldPath": ".replicas"},
    {
        "rule": "self.cron == oldSelf.cron",
        "messageExpression": "'was ' + oldSelf.cron",
        "reason": "FieldValueForbidden",
    },
    {"rule": "!has(self.parts) || self.parts.all(p, p.size > 0)"},
]


def installed(spec: Obj = SPEC) -> Registry:
    registry = Registry.builtin()
    registry.install_crd(crd({"type": "object", "properties": {"spec": spec}}))
    return registry


def custom(**spec: Any) -> Obj:
    return {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": meta(), "spec": {"cron": "1", **spec}}


def checked(registry: Registry, given: Obj, old: Obj | None = None) -> tuple[Obj, list[tuple[str, str]]]:
    obj = deepcopy(given)
    kind = registry.by_kind("stable.example.com", "v1", "CronTab")
    assert kind is not None
    kind.schema.prune(obj)
    kind.schema.default(obj)
    causes = kind.schema.validate(obj)
    causes = causes or list(kind.strategy.validate(obj, old))
    return obj, [(cause.field, cause.message) for cause in causes]


def test_pruning_and_defaults() -> None:
    given = custom(nope=1, replicas=None, maybe=None, free={"any": [None]}, parts=[{"name": "a", "x": 1}], port="http")
    obj, causes = checked(installed(), given)
    assert causes == []
    assert obj["spec"] == {
        "cron": "1",
        "replicas": 1,
        "maybe": None,
        "free": {"any": [None]},
        "port": "http",
        "parts": [{"name": "a", "size": 3}],
    }


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"cron": None}, "spec.cron", "Required value"),
        ({"cron": 5}, "spec.cron", 'Invalid value: "integer": spec.cron in body must be of type string: "integer"'),
        ({"cron": "x"}, "spec.cron", f'Invalid value: "x": {SHOULD_MATCH}'),
        ({"cron": "12345"}, "spec.cron", "Too long: may not be more than 4 bytes"),
        ({"cron": "1\n"}, "spec.cron", rf'Invalid value: "1\n": {SHOULD_MATCH}'),
        (
            {"replicas": 0},
            "spec.replicas",
            "Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
        ),
        (
            {"replicas": True},
            "spec.replicas",
            'Invalid value: "boolean": spec.replicas in body must be of type integer: "boolean"',
        ),
        ({"mode": "c"}, "spec.mode", 'Unsupported value: "c": supported values: "a", "b"'),
        (
            {"labels": {"a": 1}},
            "spec.labels[a]",
            'Invalid value: "integer": spec.labels[a] in body must be of type string: "integer"',
        ),
        ({"tags": ["a", "a"]}, "spec.tags[1]", 'Duplicate value: "a"'),
        ({"tags": ["a", "b", "c", "d"]}, "spec.tags", "Too many: 4: must have at most 3 items"),
        ({"parts": [{"name": "a"}, {"name": "a"}]}, "spec.parts[1]", 'Duplicate value: {"name":"a"}'),
        (
            {"either": 5},
            "spec.either",
            "Invalid value: 5: spec.either in body must validate at least one schema (anyOf)",
        ),
        ({"when": "noon"}, "spec.when", 'Invalid value: "noon": must be a time as in RFC 3339 (2006-01-02T15:04:05Z)'),
    ],
)
def test_constraints(spec: Obj, field: str, message: str) -> None:
    _, causes = checked(installed(), custom(**spec))
    assert (field, message) in causes


def test_cel_rules() -> None:
    registry = installed({**SPEC, "x-kubernetes-validations": RULES})
    assert checked(registry, custom())[1] == []
    assert checked(registry, custom(replicas=9, mode="b"))[1] == [
        ("spec.replicas", 'Invalid value: "object": too many')
    ]
    assert checked(registry, custom(cron="2"), custom())[1] == [("spec", "Forbidden: was 1")]
    broken = checked(registry, custom(parts=[{"name": "a", "size": 0}]))[1]
    assert broken == [
        ("spec", 'Invalid value: "object": failed rule: !has(self.parts) || self.parts.all(p, p.size > 0)')
    ]
    missing = checked(registry, custom(replicas=9))[1]
    assert "evaluating rule: too many" in missing[0][1]


def test_cel_of_names_that_expressions_cannot_spell_and_of_optional_old_values() -> None:
    spec = {
        "type": "object",
        "properties": {"cron": {"type": "string"}, "a-b": {"type": "integer"}},
        "x-kubernetes-validations": [
            {"rule": "self.a__dash__b > 1", "message": "small"},
            {"rule": "oldSelf.hasValue() || self.cron == '1'", "optionalOldSelf": True, "message": "first"},
        ],
    }
    registry = installed(spec)
    assert checked(registry, custom(**{"a-b": 2}))[1] == []
    assert checked(registry, custom(**{"a-b": 1, "cron": "2"}))[1] == [
        ("spec", 'Invalid value: "object": small'),
        ("spec", 'Invalid value: "object": first'),
    ]
    assert checked(registry, custom(**{"a-b": 2, "cron": "2"}), custom())[1] == []


@pytest.mark.parametrize(
    ("schema", "field", "words"),
    [
        ({"type": "string"}, "", "must be object at the root"),
        (
            {"type": "object", "properties": {"a": {}}},
            ".properties[a].type",
            "must not be empty for specified object fields",
        ),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, ".properties[a].items", "must be specified"),
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
            ".properties[a].pattern",
            "must be a valid regular",
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": "self.a +"}]},
            ".x-kubernetes-validations[0].rule",
            "compilation failed",
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": "'text'"}]},
            ".x-kubernetes-validations[0].rule",
            "must evaluate to a bool",
        ),
    ],
)
def test_definitions_that_are_refused(create: Create, schema: Obj, field: str, words: str) -> None:
    _, causes = create(crd(schema))
    base = "spec.versions[0].schema.openAPIV3Schema"
    assert any(cause.field.startswith(base + field) and words in cause.message for cause in causes), causes


def test_a_good_definition_passes_and_its_names_must_fit(create: Create) -> None:
    made, causes = create(crd())
    assert causes == []
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"]["listKind"] == "CronTabList"
    wrong = crd()
    wrong["metadata"]["name"] = "x.stable.example.com"
    assert "metadata.name" in {cause.field for cause in create(wrong)[1]}


def test_without_the_library_rules_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, create: Create) -> None:
    monkeypatch.setattr(cel, "available", lambda: False)
    _, causes = create(crd({"type": "object", "x-kubernetes-validations": [{"rule": "true"}]}))
    assert "corral[cel]" in causes[0].message
    with pytest.raises(cel.CelUnavailable):
        installed({**SPEC, "x-kubernetes-validations": RULES})

"""Value constraints of a CRD's schema (OpenAPI v3 without CEL), compiled once into small functions.

The wording is that of go-openapi, which Kubernetes prints.
"""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from corral.kinds.schema.base import Check
from corral.kinds.schema.causes import (
    duplicate,
    invalid,
    json_type,
    not_supported,
    required,
    too_long,
    too_many,
    type_invalid,
)
from corral.kinds.schema.formats import string_format
from corral.kinds.schema.paths import Path, render
from corral.kinds.schema.patterns import matcher
from corral.kinds.status import Cause

Node = Mapping[str, Any]


def checks_of(node: Node) -> tuple[Check, ...]:
    """Every constraint of a node but its type, its format, its enumeration and its properties' own constraints."""
    return tuple(_checks(node))


def _checks(node: Node) -> Iterator[Check]:
    yield from _numbers(node)
    yield from _strings(node)
    yield from _lists(node)
    yield from _objects(node)
    yield from _combinations(node)


def _is_number(value: Any) -> bool:
    return value.__class__ in (int, float)


def _simple(applies: Callable[[Any], bool], holds: Callable[[Any], bool], says: Callable[[str, Any], Cause]) -> Check:
    def check(value: Any, path: Path | None, causes: list[Cause]) -> None:
        if applies(value) and not holds(value):
            causes.append(says(render(path), value))

    return check


def _body(detail: str) -> Callable[[str, Any], Cause]:
    return lambda where, value: invalid(where, value, f"{where} in body {detail}")


def _numbers(node: Node) -> Iterator[Check]:
    low, high, step = node.get("minimum"), node.get("maximum"), node.get("multipleOf")
    if low is not None:
        if node.get("exclusiveMinimum"):
            yield _simple(_is_number, lambda value: bool(value > low), _body(f"should be greater than {low:g}"))
        else:
            says = _body(f"should be greater than or equal to {low:g}")
            yield _simple(_is_number, lambda value: bool(value >= low), says)
    if high is not None:
        if node.get("exclusiveMaximum"):
            yield _simple(_is_number, lambda value: bool(value < high), _body(f"should be less than {high:g}"))
        else:
            says = _body(f"should be less than or equal to {high:g}")
            yield _simple(_is_number, lambda value: bool(value <= high), says)
    if step:
        factor = Decimal(str(step))
        says = _body(f"should be a multiple of {step:g}")
        yield _simple(_is_number, lambda value: Decimal(str(value)) % factor == 0, says)


def _strings(node: Node) -> Iterator[Check]:
    def is_text(value: Any) -> bool:
        return value.__class__ is str

    shortest, longest, pattern = node.get("minLength"), node.get("maxLength"), node.get("pattern")
    if shortest:
        yield _simple(is_text, lambda v: len(v) >= shortest, _body(f"should be at least {shortest} chars long"))
    if longest is not None:
        yield _simple(is_text, lambda v: len(v) <= longest, lambda where, _: too_long(where, longest))
    if pattern:
        yield _simple(is_text, matcher(pattern, python_pattern(pattern)), _body(f"should match '{pattern}'"))


def python_pattern(pattern: str) -> str:
    """A Go (RE2) pattern in Python's dialect: `$` and `\\z` match at the very end only, POSIX classes spelled out."""
    text = pattern.replace(r"\z", r"\Z")
    for name, members in _POSIX.items():
        text = text.replace(f"[:{name}:]", members)
    result, escaped, in_class = "", False, False
    for char in text:
        if escaped or char not in "\\[]$":
            escaped = False
            result += char
            continue
        if char == "\\":
            escaped = True
        elif char == "[":
            in_class = True
        elif char == "]":
            in_class = False
        result += r"\Z" if char == "$" and not in_class and "(?m" not in text else char
    return result


_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\s",
    "xdigit": "0-9A-Fa-f",
    "word": "0-9A-Za-z_",
}


def _lists(node: Node) -> Iterator[Check]:
    def is_list(value: Any) -> bool:
        return value.__class__ is list

    fewest, most = node.get("minItems"), node.get("maxItems")
    if fewest:
        detail = f"should have at least {fewest} items"
        yield _simple(
            is_list, lambda v: len(v) >= fewest, lambda where, v: invalid(where, len(v), f"{where} in body {detail}")
        )
    if most is not None:
        yield _simple(is_list, lambda v: len(v) <= most, lambda where, v: too_many(where, len(v), most))
    if node.get("uniqueItems"):
        yield _simple(is_list, lambda v: len({repr(i) for i in v}) == len(v), lambda where, v: duplicate(where, v))


def _objects(node: Node) -> Iterator[Check]:
    def is_object(value: Any) -> bool:
        return value.__class__ is dict

    fewest, most = node.get("minProperties"), node.get("maxProperties")
    if fewest:
        detail = f"should have at least {fewest} properties"
        yield _simple(
            is_object, lambda v: len(v) >= fewest, lambda where, v: invalid(where, len(v), f"{where} in body {detail}")
        )
    if most is not None:
        yield _simple(
            is_object,
            lambda v: len(v) <= most,
            lambda where, v: Cause("FieldValueTooMany", f"Too many: {len(v)}: must have at most {most} items", where),
        )


def _combinations(node: Node) -> Iterator[Check]:
    for part in node.get("allOf", ()):
        yield _all_of(full(part))
    for key, holds in (("anyOf", lambda hits: hits > 0), ("oneOf", lambda hits: hits == 1)):
        if node.get(key):
            yield _some_of(key, [full(part) for part in node[key]], holds)
    if node.get("not"):
        unwanted = full(node["not"])

        def check(value: Any, path: Path | None, causes: list[Cause]) -> None:
            if not _causes(unwanted, value, path):
                where = render(path)
                causes.append(invalid(where, value, f"{where} must not validate the schema (not)"))

        yield check


def _all_of(part: Check) -> Check:
    def check(value: Any, path: Path | None, causes: list[Cause]) -> None:
        part(value, path, causes)

    return check


def _some_of(key: str, parts: list[Check], holds: Callable[[int], bool]) -> Check:
    words = "at least one schema" if key == "anyOf" else "one and only one schema"

    def check(value: Any, path: Path | None, causes: list[Cause]) -> None:
        tried = [_causes(part, value, path) for part in parts]
        hits = sum(not found for found in tried)
        if holds(hits):
            return
        where = render(path)
        detail = f"{where or '<nil>'} in body must validate {words} ({key})"
        if hits > 1:
            detail += ". Found " + str(hits) + " valid alternatives"
        causes.append(invalid(where, value, detail))
        if len(tried) == 1:
            causes.extend(tried[0])

    return check


def _causes(part: Check, value: Any, path: Path | None) -> list[Cause]:
    found: list[Cause] = []
    part(value, path, found)
    return found


def full(node: Node) -> Check:
    """Everything a node says about a value, for the branches of allOf, anyOf, oneOf and not."""
    own = checks_of(node)
    kind, enum, format = node.get("type", ""), tuple(node.get("enum", ())), node.get("format", "")
    properties = {name: full(child) for name, child in node.get("properties", {}).items()}
    values = node.get("additionalProperties")
    entry = full(values) if isinstance(values, Mapping) else None
    item = full(node["items"]) if isinstance(node.get("items"), Mapping) else None
    needed = tuple(node.get("required", ()))
    known = string_format(format)

    def check(value: Any, path: Path | None, causes: list[Cause]) -> None:
        if kind and not _fits(kind, value):
            causes.append(type_invalid(render(path), json_type(value), kind))
            return
        if enum and value not in enum:
            causes.append(not_supported(render(path), value, enum))
        if known is not None and isinstance(value, str) and not known[0](value):
            causes.append(invalid(render(path), value, known[1]))
        if isinstance(value, dict):
            causes.extend(required(render((path, name))) for name in needed if name not in value)
            for name, inner in value.items():
                part = properties.get(name, entry)
                if part is not None:
                    part(inner, (path, name), causes)
        elif isinstance(value, list) and item is not None:
            for index, inner in enumerate(value):
                item(inner, (path, index), causes)
        for part in own:
            part(value, path, causes)

    return check


def _fits(kind: str, value: Any) -> bool:
    got = json_type(value)
    return got == kind or (kind == "number" and got == "integer") or (kind == "integer" and _whole(value))


def _whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()

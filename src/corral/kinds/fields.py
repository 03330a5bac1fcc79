"""Reading fields by path: dotted paths, the downward API's `fieldPath`, and the JSONPath of printer columns.

The JSONPath is the part of client-go's `util/jsonpath` that custom resource columns use: names, `['quoted names']`,
indexes, slices, `*`, `..name` and filters such as `[?(@.type=="Ready")]`. Missing keys select nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from corral.kinds.types import Obj

_SUBSCRIPTED: Final = re.compile(r"(metadata\.(?:labels|annotations))\['([^']*)'\]")

Step: TypeAlias = Callable[[Any], Iterator[Any]]


def get(obj: Any, path: str) -> Any:
    """The value at the dotted `path`, or None if any part of the way is missing. Keys with dots need `json_path`."""
    for name in path.split("."):
        if not isinstance(obj, Mapping):
            return None
        obj = obj.get(name)
    return obj


def field_ref(obj: Obj, path: str) -> str | None:
    """What a downward API `fieldPath` gives: `metadata.name`, `metadata.labels['x']`, or all labels as `key="value"`
    lines; None if the field is not set.

    Source: kubernetes/pkg/fieldpath ExtractFieldPathAsString.
    """
    subscripted = _SUBSCRIPTED.fullmatch(path)
    if subscripted is not None:
        value = (get(obj, subscripted[1]) or {}).get(subscripted[2])
        return None if value is None else str(value)
    value = get(obj, path)
    if path in ("metadata.labels", "metadata.annotations"):
        return "\n".join(f'{key}="{_quoted(text)}"' for key, text in sorted((value or {}).items()))
    return None if value is None else str(value)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def json_path(obj: Any, path: str) -> list[Any]:
    """Every value that the JSONPath `path` selects, in order.

    Raises:
        ValueError: `path` is not in the subset described above.
    """
    return list(compile_json_path(path)(obj))


@lru_cache(maxsize=512)
def compile_json_path(path: str) -> Step:
    """`path` as a function from a document to the values it selects.

    Raises:
        ValueError: `path` is not in the subset described above.
    """
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    steps = tuple(_steps(text, path))

    def run(document: Any) -> Iterator[Any]:
        return _follow(document, steps, 0)

    return run


def _follow(value: Any, steps: tuple[Step, ...], at: int) -> Iterator[Any]:
    if at == len(steps):
        yield value
        return
    for found in steps[at](value):
        yield from _follow(found, steps, at + 1)


_NAME: Final = re.compile(r"(?:\\.|[^.\[\]\\])+")


def _steps(text: str, path: str) -> Iterator[Step]:
    position = 0
    if text.startswith(("$", "@")):
        position = 1
    while position < len(text):
        recursive = text.startswith("..", position)
        position += 2 if recursive else (1 if text[position] == "." else 0)
        if recursive:
            yield _descend
        if position < len(text) and text[position] == "[":
            end = _closing(text, position, path)
            yield _subscript(text[position + 1 : end].strip(), path)
            position = end + 1
            continue
        match = _NAME.match(text, position)
        if match is None:
            if position >= len(text) and text == ".":
                return
            raise ValueError(f"cannot read the JSONPath {path!r}: a name or [...] is missing at character {position}")
        yield _child(re.sub(r"\\(.)", r"\1", match[0]))
        position = match.end()


def _closing(text: str, start: int, path: str) -> int:
    depth, quote = 0, ""
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            if character == quote and text[position - 1] != "\\":
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth == 0:
                return position
    raise ValueError(f"cannot read the JSONPath {path!r}: the bracket at character {start} is not closed")


def _descend(value: Any) -> Iterator[Any]:
    yield value
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for child in children:
        yield from _descend(child)


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _child(name: str) -> Step:
    if name == "*":
        return _every

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, Mapping) and name in value:
            yield value[name]

    return step


_INDEX: Final = re.compile(r"-?\d+", re.ASCII)
_SLICE: Final = re.compile(r"(-?\d*):(-?\d*)(?::(\d+))?", re.ASCII)
_FILTER: Final = re.compile(r"\?\((.*)\)", re.DOTALL)


def _subscript(inner: str, path: str) -> Step:
    if inner == "*":
        return _every
    if len(inner) >= 2 and inner[0] in "'\"" and inner[-1] == inner[0]:
        return _child(inner[1:-1]) if inner[1:-1] != "*" else _every
    if _INDEX.fullmatch(inner):
        return _sliced(slice(int(inner), int(inner) + 1 or None))
    if (match := _SLICE.fullmatch(inner)) is not None:
        return _sliced(slice(*(int(part) if part else None for part in match.groups())))
    if (match := _FILTER.fullmatch(inner)) is not None:
        return _filter(match[1].strip(), path)
    raise ValueError(
        f"cannot read the JSONPath {path!r}: [{inner}] is not an index, a slice, a quoted name or a filter"
    )


def _sliced(part: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return step


_COMPARISON: Final = re.compile(r"(.*?)\s*(==|!=|<=|>=|<|>)\s*(.*)", re.DOTALL)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<=": lambda left, right: bool(left <= right),
    ">=": lambda left, right: bool(left >= right),
    "<": lambda left, right: bool(left < right),
    ">": lambda left, right: bool(left > right),
}


def _filter(condition: str, path: str) -> Step:
    match = _COMPARISON.fullmatch(condition)
    left = _operand(match[1] if match else condition, path)
    compare = _COMPARE[match[2]] if match else None
    right = _operand(match[3], path) if match else None

    def holds(item: Any) -> bool:
        found = left(item)
        if not found or compare is None or right is None:
            return bool(found)
        other = right(item)
        try:
            return bool(other) and compare(found[0], other[0])
        except TypeError:
            return False

    def step(value: Any) -> Iterator[Any]:
        yield from (item for item in _every(value) if holds(item))

    return step


def _operand(text: str, path: str) -> Callable[[Any], list[Any]]:
    if text.startswith("@"):
        selector = compile_json_path(text)
        return lambda item: list(selector(item))
    literal = _literal(text, path)
    return lambda item: [literal]


def _literal(text: str, path: str) -> Any:
    if len(text) >= 2 and text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if _INDEX.fullmatch(text) else float(text)
    except ValueError as error:
        raise ValueError(
            f"cannot read the JSONPath {path!r}: {text!r} is not a number, a quoted text, true or false"
        ) from error

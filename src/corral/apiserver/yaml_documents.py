"""YAML as Kubernetes reads it, from strangers: bounded in depth, in what aliases and merges expand to, and in time.

PyYAML's limits are not enough for a server: libyaml's composer recurses on the C stack (a hundred thousand brackets end
the process), merge keys multiply like aliases while a document is still being read, and numbers in base 60 take
quadratic time.
"""

from collections.abc import Callable
from typing import Any

import yaml

from corral.kinds.status import bad_request

_VALUE_LIMIT = 1_000_000
_DEPTH_LIMIT = 512
"""Collections within collections. JSON bodies may nest about twice as deep; no schema needs a tenth."""
_LONGEST_NUMBER = 64
_MERGE = "tag:yaml.org,2002:merge"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TIME = "tag:yaml.org,2002:timestamp"
_INDICATORS = (b"[", b"{", b"-", b"?", b":")
"""Each level of nesting takes at least one of them."""


class _Loader(yaml.CSafeLoader):
    """Times stay text, keys are text, duplicates are noted."""

    duplicates: list[str]
    merged = 0
    """Pairs that merge keys (`<<`) have copied so far."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """As PyYAML's, but what a merge copies is counted before it is copied."""
        merges = [value for key, value in node.value if key.tag == _MERGE]
        if not merges:
            return
        node.value = [pair for pair in node.value if pair[0].tag != _MERGE]
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for value in merges:
            # Of several mappings the first counts, and later pairs replace earlier ones.
            for source in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                if not isinstance(source, yaml.MappingNode):
                    raise yaml.constructor.ConstructorError(
                        "while constructing a mapping", node.start_mark, "only mappings can be merged", value.start_mark
                    )
                self.flatten_mapping(source)
                self.merged += len(source.value) + 1
                if self.merged > _VALUE_LIMIT:
                    raise ValueError("its merge keys expand to too many values")
                pairs += source.value
        node.value = pairs + node.value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(self.construct_object(key_node, deep=True))
            if key in result:
                self.duplicates.append(key)
            result[key] = self.construct_object(value_node, deep=deep)
        return result

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """A number; `22:22` is text, as in YAML 1.2 and in Go's YAML."""
        if ":" in node.value:
            return node.value
        if len(node.value) > _LONGEST_NUMBER:
            raise ValueError(f"a number has more than {_LONGEST_NUMBER} characters")
        return self.construct_yaml_int(node) if node.tag == _INT else self.construct_yaml_float(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIME]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor(_INT, _Loader.construct_number)
_Loader.add_constructor(_FLOAT, _Loader.construct_number)


def load(body: bytes, duplicates: list[str] | None = None) -> Any:
    """The one document in `body`; names of duplicated fields are appended to `duplicates`, if it is given.

    Raises:
        StatusError: 400, it is not YAML, or it is or expands to more than a server takes.
    """
    return _load(body, yaml.CSafeLoader.get_single_data, duplicates)


def load_all(body: bytes) -> list[Any]:
    """All documents in `body`.

    Raises:
        StatusError: as `load`.
    """
    return list(_load(body, _every_document, None))


def _every_document(loader: yaml.CSafeLoader) -> list[Any]:
    found: list[Any] = []
    while loader.check_data():  # type: ignore[no-untyped-call]
        found.append(loader.get_data())
    return found


def _load(body: bytes, read: Callable[[yaml.CSafeLoader], Any], duplicates: list[str] | None) -> Any:
    try:
        _check_depth(body)
        loader = _Loader(body)
        loader.duplicates = []
        try:
            value = read(loader)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise bad_request(f"cannot decode the body as YAML: {' '.join(str(error).split())}") from error
    if b"*" in body and _count(value, {}) > _VALUE_LIMIT:
        raise bad_request("cannot decode the body as YAML: its aliases expand to too many values")
    if duplicates is not None:
        duplicates.extend(loader.duplicates)
    return value


def _check_depth(body: bytes) -> None:
    """Refuse a document that is nested too deeply, by its events: reading those does not recurse."""
    # UTF-16 has the indicators as bytes too, so the quick look holds for it as well.
    if sum(map(body.count, _INDICATORS)) < _DEPTH_LIMIT:
        return
    depth = 0
    for event in yaml.parse(body, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_LIMIT:
                raise ValueError(f"it is nested more than {_DEPTH_LIMIT} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _key(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value)


def _count(value: Any, counted: dict[int, int]) -> int:
    """How many values `value` has when aliases are expanded (sharing makes this quick even for hostile input)."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in counted:
        return counted[id(value)]
    counted[id(value)] = _VALUE_LIMIT  # a value that contains itself is too large
    total = 1 + sum(_count(child, counted) for child in (value.values() if isinstance(value, dict) else value))
    counted[id(value)] = total
    return total

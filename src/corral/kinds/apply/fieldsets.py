"""Sets of field paths as tries, in the very form of `fieldsV1`.

A node is a mapping from path elements to nodes: `f:name` a field, `k:{"name":"web"}` a list item by its keys, `v:"x"`
an item of a set, `i:0` one by its place. A node stands for a member of the set if it is empty or has the entry `.`. The
root is never a member. Nodes never change once they are made, so that sets may share them.

Source: sigs.k8s.io/structured-merge-diff, package fieldpath.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import orjson

Trie: TypeAlias = dict[str, Any]
SELF: Final = "."


def is_member(node: Trie) -> bool:
    """Whether the path that leads to `node` is itself in the set."""
    return not node or SELF in node


def union(left: Trie, right: Trie) -> Trie:
    """The paths in either set."""
    if not left or not right or left == right:
        return left or right
    out = dict(left)
    for element, node in right.items():
        present = out.get(element)
        out[element] = node if present is None else _node_union(present, node)
    return out


def _node_union(left: Trie, right: Trie) -> Trie:
    if left == right:
        return left
    out = union(left, right)
    if (is_member(left) or is_member(right)) and SELF not in out:
        out = {SELF: {}, **out}
    return out


def difference(left: Trie, right: Trie) -> Trie:
    """The paths of `left` that are not in `right`."""
    return _children_difference(left, right) if left and right else left


def _children_difference(left: Trie, right: Trie) -> Trie:
    out: Trie = {}
    for element, node in left.items():
        if element == SELF:
            continue
        other = right.get(element)
        kept = node if other is None else _node_difference(node, other)
        if kept is not None:
            out[element] = kept
    return out


def _node_difference(left: Trie, right: Trie) -> Trie | None:
    return _node(_children_difference(left, right), is_member(left) and not is_member(right))


def _node(children: Trie, member: bool) -> Trie | None:
    """A node with these children, which is a member or not; None if it is nothing at all."""
    if not member:
        return children or None
    return {SELF: {}, **children} if children else {}


def intersection(left: Trie, right: Trie) -> Trie:
    """The paths in both sets."""
    out: Trie = {}
    for element, node in left.items():
        other = right.get(element)
        if other is not None and element != SELF and (kept := _node_intersection(node, other)) is not None:
            out[element] = kept
    return out


def _node_intersection(left: Trie, right: Trie) -> Trie | None:
    return _node(intersection(left, right), is_member(left) and is_member(right))


def paths(trie: Trie, prefix: str = "") -> Iterator[str]:
    """Every path of the set in Kubernetes' notation, as in `.spec.containers[name="web"].image`."""
    for element, node in sorted(trie.items()):
        if element == SELF:
            continue
        path = prefix + element_text(element)
        if is_member(node):
            yield path
        yield from paths(node, path)


def element_text(element: str) -> str:
    """One path element as people read it."""
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        keys = orjson.loads(rest)
        return "[" + ",".join(f"{name}={orjson.dumps(value).decode()}" for name, value in sorted(keys.items())) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"

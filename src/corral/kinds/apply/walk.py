"""Walks over objects and their nodes: which fields an object sets, what changed, merging, taking fields out.

Source of the rules: sigs.k8s.io/structured-merge-diff, package typed (ToFieldSet, Compare, Merge, RemoveItems).
"""

from collections.abc import Iterator
from typing import Any, Final

from corral.kinds.apply.fieldsets import SELF, Trie, is_member
from corral.kinds.apply.nodes import FIELDS, ITEMS, LEAF, SET, Node
from corral.kinds.patch.documents import copied
from corral.kinds.types import Obj

GONE: Final = object()
"""Nothing is left of a value."""


def _is_branch(node: Node, value: Any) -> bool:
    """Whether the parts of `value` are owned one by one."""
    shape = node.shape
    if shape == LEAF:
        return False
    return type(value) is dict if shape == FIELDS else type(value) is list


def fields_of(node: Node, value: Any) -> Trie:
    """The fields that an applied configuration sets."""
    out: Trie = {}
    if node.shape == FIELDS:
        for name, item in value.items():
            child = node.child(name)
            if child.node is None:
                continue
            if item and _is_branch(child.node, item):
                below = fields_of(child.node, item)
                if not child.named:
                    out[child.element] = {SELF: {}, **below} if below else below
                elif below:
                    out[child.element] = below
            elif item != [] or not _is_branch(child.node, item):
                out[child.element] = {}
        return out
    for item in value:
        element = node.element(item)
        below = fields_of(node.item, item) if node.shape == ITEMS and _is_branch(node.item, item) else {}
        if below:
            below[SELF] = {}
        out[element] = below
    return out


def _added(node: Node, value: Any) -> Trie:
    """The fields of a value that was not there before; everything that holds others is a member too."""
    if not value:
        return {}
    if node.shape == FIELDS:
        if type(value) is not dict:
            return {}
        out: Trie = {SELF: {}}
        for name, item in value.items():
            child = node.child(name)
            if child.node is None:
                continue
            below = child.node
            out[child.element] = _added(below, item) if below.shape and type(item) in (dict, list) else {}
        return out if len(out) > 1 else {}
    if node.shape == LEAF or type(value) is not list:
        return {}
    out = {SELF: {}}
    for item in value:
        out[node.element(item)] = _added(node.item, item) if node.shape == ITEMS else {}
    return out


def compare(node: Node, old: Any, new: Any, changed: Trie, removed: Trie) -> None:
    """Add to `changed` the fields that `new` adds or sets otherwise than `old`, and to `removed` those that it lacks.

    Both values are branches of `node` (null counts as an empty one). Equal parts cost one comparison.
    """
    if node.shape == FIELDS:
        _compare_fields(node, old or {}, new or {}, changed, removed)
    elif node.shape == ITEMS:
        _compare_items(node, old or [], new or [], changed, removed)
    else:
        _compare_sets(node, old or [], new or [], changed, removed)


def _compare_fields(node: Node, old: Obj, new: Obj, changed: Trie, removed: Trie) -> None:
    for name, item in new.items():
        before = old.get(name, GONE)
        if before is item or before == item:
            continue
        child = node.child(name)
        if child.node is None:
            continue
        if before is GONE:
            changed[child.element] = _added(child.node, item)
        else:
            _compare_value(child.node, child.element, before, item, changed, removed)
    for name, item in old.items():
        if name not in new:
            child = node.child(name)
            if child.node is not None:
                removed[child.element] = _added(child.node, item)


def _compare_value(node: Node, element: str, old: Any, new: Any, changed: Trie, removed: Trie) -> None:
    old_branch = old is None or _is_branch(node, old)
    new_branch = new is None or _is_branch(node, new)
    if node.shape == LEAF or not (old_branch and new_branch) or (not old and not new):
        changed[element] = {}
        parts = {part: below for part, below in _added(node, old).items() if part != SELF}
        if parts:
            removed[element] = parts
        return
    more: Trie = {}
    less: Trie = {}
    compare(node, old, new, more, less)
    if more:
        changed[element] = more
    if less:
        removed[element] = less


def _compare_items(node: Node, old: list[Any], new: list[Any], changed: Trie, removed: Trie) -> None:
    before, after = index(node, old), index(node, new)
    for element, item in after.items():
        if element not in before:
            changed[element] = _added(node.item, item)
        elif before[element] != item:
            _compare_value(node.item, element, before[element], item, changed, removed)
    for element, item in before.items():
        if element not in after:
            removed[element] = _added(node.item, item)


def _compare_sets(node: Node, old: list[Any], new: list[Any], changed: Trie, removed: Trie) -> None:
    before, after = index(node, old), index(node, new)
    changed.update((element, {}) for element in after if element not in before)
    removed.update((element, {}) for element in before if element not in after)


def index(node: Node, items: list[Any]) -> dict[str, Any]:
    """A list's items by path element, in order; of items that stand twice, the first."""
    found: dict[str, Any] = {}
    for item in items:
        found.setdefault(node.element(item), item)
    return found


def with_named_members(node: Node, trie: Trie) -> Trie:
    """The set with every field that the schema names on the way to a member; `metadata` itself is never taken out."""
    out: Trie = {}
    for element, below in trie.items():
        if element == SELF or not below:
            out[element] = below
            continue
        child, named = node.under(element)
        if child is None:
            continue
        fuller = with_named_members(child, below)
        if named and not child.is_metadata:
            fuller[SELF] = {}
        out[element] = fuller
    return out


def without(node: Node, value: Any, gone: Trie) -> Any:
    """`value` without the fields in `gone`; GONE if nothing is left."""
    if not _is_branch(node, value):
        return GONE
    if node.shape == FIELDS:
        kept: Obj = {}
        for name, item in value.items():
            child = node.child(name)
            below = gone.get(child.element)
            if below is None or child.node is None:
                kept[name] = item
            elif not is_member(below) and (rest := without(child.node, item, below)) is not GONE:
                kept[name] = rest
        return kept or GONE
    return list(_items_without(node, value, gone)) or GONE


def _items_without(node: Node, items: list[Any], gone: Trie) -> Iterator[Any]:
    for item in items:
        below = gone.get(node.element(item))
        if below is None:
            yield item
        elif not is_member(below):
            rest = without(node.item, item, below)
            if rest is not GONE:
                yield rest


def merge(node: Node | None, live: Any, config: Any) -> Any:
    """`live` with `config` merged in: what `config` sets wins, what it does not mention stays. Shares with neither."""
    if node is None or not (_is_branch(node, live) and _is_branch(node, config)):
        return copied(config)
    if node.shape == FIELDS:
        out = {name: copied(item) for name, item in live.items() if name not in config}
        merged = {
            name: merge(node.child(name).node, live[name], item) if name in live else copied(item)
            for name, item in config.items()
        }
        places = [*live, *(name for name in config if name not in live)]
        return {name: merged[name] if name in merged else out[name] for name in places}
    return _merged_list(node, live, config)


def _merged_list(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """Items of both lists: the order of `config` where it speaks, and that of `live` between."""
    left, right = index(node, live), index(node, config)
    left_order, right_order = list(left), list(right)
    shared = iter([element for element in right_order if element in left])
    next_shared = next(shared, None)
    out: list[Any] = []

    def take(element: str) -> None:
        item = right[element]
        out.append(merge(node.item, left[element], item) if node.shape == ITEMS and element in left else copied(item))

    at_left = at_right = 0
    while at_left < len(left_order) or at_right < len(right_order):
        mine = left_order[at_left] if at_left < len(left_order) else None
        theirs = right_order[at_right] if at_right < len(right_order) else None
        if mine is not None and mine not in right:
            out.append(copied(left[mine]))
            at_left += 1
        elif mine is not None and (theirs is None or mine not in (theirs, next_shared)):
            # Shared, and its place is where the configuration has it.
            at_left += 1
        elif theirs is not None:
            take(theirs)
            at_right += 1
            at_left += mine == theirs
            if theirs == next_shared:
                next_shared = next(shared, None)
    return out


__all__ = ["GONE", "SET", "compare", "fields_of", "index", "merge", "with_named_members", "without"]

"""Who owns what after a plain write: create, update, or one of the patches other than apply."""

from datetime import datetime
from functools import lru_cache
from typing import Final

import orjson

from corral.base.clock import rfc3339
from corral.kinds.apply import managers
from corral.kinds.apply.fieldsets import Trie, difference, union
from corral.kinds.apply.nodes import UNOWNED_METADATA, ApplySchema, root_node
from corral.kinds.apply.walk import compare
from corral.kinds.types import Obj

# What an object of a built-in kind has before anything is set: in Go, these are structs, so that they are never absent
# and nobody owns them as such.
_EMPTY_TEMPLATE: Final[Obj] = {"metadata": {}, "spec": {"containers": None}}
_EMPTY: Final[Obj] = {
    "metadata": {},
    "spec": {
        "selector": None,
        "strategy": {},
        "updateStrategy": {},
        "template": _EMPTY_TEMPLATE,
        "jobTemplate": {"metadata": {}, "spec": {"template": _EMPTY_TEMPLATE}},
        "containers": None,
    },
    "status": {},
}
_EMPTY_BUT_SPEC: Final[Obj] = {name: value for name, value in _EMPTY.items() if name != "spec"}
_EMPTY_CUSTOM: Final[Obj] = {"metadata": {}}


def track(
    schema: ApplySchema, old: Obj | None, new: Obj, *, manager: str, now: datetime, subresource: str = ""
) -> None:
    """Set `new.metadata.managedFields`, in place, after `manager` has written `new` over `old` (None on create).

    The manager takes what it changed, the others lose it, and nobody owns what was removed. A write that changes
    nothing that can be owned leaves the list as it was, times included. The result shares unchanged entries with `old`.
    """
    metadata = new["metadata"]
    live = old["metadata"].get("managedFields") if old is not None else None
    entries = managers.before_write(live, metadata.pop("managedFields", None), subresource=subresource)
    changed: Trie = {}
    removed: Trie = {}
    if old is None and "spec" in new and not schema.custom:
        told = {name: value for name, value in metadata.items() if name not in UNOWNED_METADATA}
        rest = {name: value for name, value in new.items() if name != "spec"} | {"metadata": told}
        changed |= _of_rest(schema, subresource, orjson.dumps(rest)) | _of_spec(
            schema, subresource, orjson.dumps(new["spec"])
        )
    else:
        compare(root_node(schema, subresource), _before(schema, old), new, changed, removed)
    if changed or removed:
        entries = _after(entries, changed, removed, manager, new["apiVersion"], now, subresource)
    if entries:
        metadata["managedFields"] = entries


@lru_cache(512)
def _of_spec(schema: ApplySchema, subresource: str, spec: bytes) -> Trie:
    """What a new object's spec sets. Remembered, because objects of one template bring the same again and again."""
    changed: Trie = {}
    old, new = {"spec": _EMPTY["spec"]}, {"spec": orjson.loads(spec)}
    compare(root_node(schema, subresource), old, new, changed, {})
    return changed


@lru_cache(512)
def _of_rest(schema: ApplySchema, subresource: str, rest: bytes) -> Trie:
    """What a new object sets beside its spec; pods of one owner have all of that in common but their names."""
    changed: Trie = {}
    compare(root_node(schema, subresource), _EMPTY_BUT_SPEC, orjson.loads(rest), changed, {})
    return changed


def _before(schema: ApplySchema, old: Obj | None) -> Obj:
    if old is None:
        return _EMPTY_CUSTOM if schema.custom else _EMPTY
    return old if schema.custom or "status" in old else {**old, "status": {}}


def _after(
    entries: list[Obj], changed: Trie, removed: Trie, manager: str, api_version: str, now: datetime, subresource: str
) -> list[Obj]:
    if not changed:
        return managers.lose(entries, removed)
    fresh = managers.entry(manager, managers.UPDATE, api_version, rfc3339(now), changed, subresource)
    if not entries:
        return [fresh]
    own = managers.identity(fresh)
    others = []
    for held in entries:
        if managers.identity(held) == own:
            fresh["fieldsV1"] = union(difference(managers.fields(held), removed), fresh["fieldsV1"])
        else:
            others.append(held)
    return managers.ordered(managers.capped([*managers.lose(others, changed, removed), fresh]))

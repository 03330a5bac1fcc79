"""Strategic merge patch: a merge patch that knows which lists are sets and which are keyed.

A field of the schema says how it is patched: `patch_strategy` "merge" on a list merges it by `patch_merge_key`, or as a
set if its items are scalars; "replace" on a mapping replaces it; "retainKeys" announces `$retainKeys`. The patch itself
may carry directives: `$patch` (replace, delete, merge), `$retainKeys`, `$setElementOrder/FIELD` and
`$deleteFromPrimitiveList/FIELD`.

Semantics and ordering follow apimachinery's util/strategicpatch and the Kubernetes community's design proposals
"preserve order in strategic merge patch" and "add new patchStrategy to clear fields not present in patch".
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from corral.kinds.patch.documents import copied, without_nulls
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Obj

_PATCH: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"


class PatchSchema(Protocol):
    """What a strategic merge needs to know about a field; `corral.kinds.schema.Schema` is one."""

    @property
    def patch_strategy(self) -> tuple[str, ...]: ...

    @property
    def patch_merge_key(self) -> str: ...

    @property
    def items(self) -> "PatchSchema | None": ...

    def field(self, name: str) -> "PatchSchema | None": ...


def strategic_merge_patch(schema: PatchSchema | None, obj: Obj, patch: Any) -> Obj:
    """`obj` with `patch` merged in as `schema` says. `obj` is used up; the result shares nothing with `patch`.

    Raises:
        StatusError: 400, a directive or a list is malformed, or an item lacks its merge key.
    """
    if not isinstance(patch, dict):
        raise bad_request("cannot apply the strategic merge patch: it must be a JSON object")
    merged: Obj = _mapping(schema, obj, copied(patch))
    return merged


def _bad(why: str) -> StatusError:
    return bad_request(f"cannot apply the strategic merge patch: {why}")


def _mapping(schema: PatchSchema | None, original: Obj, patch: Obj) -> Obj:
    """Merge `patch` into `original`; both belong to the caller and are used up."""
    directive = patch.pop(_PATCH, None)
    if directive == "replace":
        fresh: Obj = _fresh(patch)
        return fresh
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise _bad(f"unknown patch type {directive!r} in {_PATCH}: write replace, delete or merge")
    _retain_keys(original, patch)
    for name in [name for name in patch if name.startswith(_ORDER)]:
        _ordered_list(schema, original, patch, name.removeprefix(_ORDER), _list(name, patch.pop(name)))
    for name, value in patch.items():
        if name.startswith(_DELETE):
            _delete_from_primitives(original, name.removeprefix(_DELETE), value)
        elif value is None:
            original.pop(name, None)
        else:
            original[name] = _value(schema.field(name) if schema else None, original.get(name), value)
    return original


def _value(schema: PatchSchema | None, original: Any, patch: Any) -> Any:
    strategy = schema.patch_strategy if schema else ()
    if isinstance(patch, dict) and isinstance(original, dict) and "replace" not in strategy:
        return _mapping(schema, original, patch)
    if isinstance(patch, list) and isinstance(original, list) and "merge" in strategy and schema is not None:
        return _merged_list(schema, original, patch)
    return _fresh(patch)


def _fresh(patch: Any) -> Any:
    """What a patch amounts to where there is nothing to merge it into: no nulls, and directives have had their say."""
    if isinstance(patch, dict):
        directive = patch.get(_PATCH)
        if directive == "delete":
            return {}
        return {name: _fresh(value) for name, value in patch.items() if value is not None and not _is_instruction(name)}
    if isinstance(patch, list):
        return [_fresh(item) for item in patch if not _is_directive(item)]
    return patch


def _is_instruction(name: str) -> bool:
    return name in (_PATCH, _RETAIN) or name.startswith((_ORDER, _DELETE))


def _is_directive(item: Any) -> bool:
    return isinstance(item, dict) and _PATCH in item


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _bad(f"{name} must be a list")
    return value


def _retain_keys(original: Obj, patch: Obj) -> None:
    if _RETAIN not in patch:
        return
    kept = set(_list(_RETAIN, patch.pop(_RETAIN)))
    for name, value in patch.items():
        if value is not None and not name.startswith((_ORDER, _DELETE)) and name not in kept:
            raise _bad(f"the field {name!r} is in the patch but not in its {_RETAIN} list")
    for name in [name for name in original if name not in kept]:
        del original[name]


def _delete_from_primitives(original: Obj, name: str, unwanted: Any) -> None:
    gone = _list(_DELETE + name, unwanted)
    present = original.get(name)
    if isinstance(present, list):
        original[name] = [item for item in present if item not in gone]


def _ordered_list(schema: PatchSchema | None, original: Obj, patch: Obj, name: str, order: list[Any]) -> None:
    """Merge the list `name` of `patch` into `original`, then arrange it by `$setElementOrder`."""
    field = schema.field(name) if schema else None
    key = field.patch_merge_key if field else ""
    live = _list(name, original[name]) if original.get(name) is not None else None
    change = _list(name, patch.pop(name)) if patch.get(name) is not None else None
    if live is None and change is None:
        return
    _check_order(name, change or [], order, key)
    if live is None:
        merged = _fresh(change)
    elif change is None:
        merged = live
    else:
        merged = _value(field, list(live), change)
    original[name] = _arranged(merged, order, live or [], key)


def _check_order(name: str, change: list[Any], order: list[Any], key: str) -> None:
    """The items of the patch must be a subsequence of the order list."""
    places: Iterator[Any] = iter([_identity(item, key) for item in order])
    for item in change:
        if not _is_directive(item) and all(place != _identity(item, key) for place in places):
            raise _bad(f"the items of {name!r} are not in {_ORDER}{name}, or are in another order there")


def _merged_list(schema: PatchSchema, original: list[Any], patch: list[Any]) -> list[Any]:
    if not original and not patch:
        return original
    kinds = {_kind_of(item) for item in (*original, *patch)}
    if list in kinds:
        raise _bad("lists of lists cannot be merged")
    if len(kinds) > 1:
        raise _bad("the items of the list and of its patch are not of one type")
    if kinds != {dict}:
        merged = list(dict.fromkeys((*original, *patch)))
        return _arranged(merged, patch, original, "")
    key = schema.patch_merge_key
    if not key:
        raise _bad("a list of objects cannot be merged without a merge key")
    live = list(original)
    kept, changes = _list_directives(original, patch, key)
    return _arranged(_merged_items(schema.items, kept, changes, key), changes, live, key)


def _kind_of(item: Any) -> type:
    # JSON has one type of number.
    return float if type(item) is int else type(item)


def _list_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any]]:
    """Carry out `$patch` items; returns the items of `original` that are left and the items to merge into them."""
    changes = [item for item in patch if not _is_directive(item)]
    replaced = False
    for item in patch:
        directive = item.get(_PATCH)
        if directive == "delete":
            gone = _identity(item, key)
            original = [live for live in original if live.get(key) != gone]
        elif directive == "replace":
            replaced = True
        elif directive is not None:
            raise _bad(f"unknown patch type {directive!r} in an item's {_PATCH}: write replace or delete")
    return ([], changes) if replaced else (original, changes)


def _merged_items(schema: PatchSchema | None, original: list[Any], changes: list[Any], key: str) -> list[Any]:
    merged = list(original)
    place = {_hashable(item[key]): index for index, item in reversed([*enumerate(merged)]) if key in item}
    for change in changes:
        identity = _hashable(_identity(change, key))
        if identity in place:
            merged[place[identity]] = _mapping(schema, merged[place[identity]], change)
        else:
            place[identity] = len(merged)
            merged.append(_fresh(change))
    return merged


def _identity(item: Any, key: str) -> Any:
    if not key:
        return item
    if not isinstance(item, dict):
        raise _bad(f"a list that is merged by {key!r} has an item that is not an object")
    if key not in item:
        raise _bad(f"the item {without_nulls(item)} lacks its merge key {key!r}")
    return item[key]


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else value


def _arranged(merged: list[Any], order: Sequence[Any], live: Sequence[Any], key: str) -> list[Any]:
    """Order `merged`: items named in `order` stand as there, the others as in `live`; the two runs are interleaved by
    `live` where it knows both, and `order` wins elsewhere."""
    rank = _ranks(order, key)
    live_rank = _ranks(live, key)

    def identity(item: Any) -> Any:
        return _hashable(_identity(item, key))

    wanted = sorted((item for item in merged if identity(item) in rank), key=lambda item: rank[identity(item)])
    others = [item for item in merged if identity(item) not in rank]
    others.sort(key=lambda item: live_rank.get(identity(item), len(live_rank)))
    return _interleaved(others, wanted, lambda item: live_rank.get(identity(item)))


def _ranks(items: Sequence[Any], key: str) -> dict[Any, int]:
    ranks: dict[Any, int] = {}
    for index, item in enumerate(items):
        ranks.setdefault(_hashable(_identity(item, key)), index)
    return ranks


def _interleaved(left: list[Any], right: list[Any], rank: Callable[[Any], int | None]) -> list[Any]:
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        left_rank, right_rank = rank(left[i]), rank(right[j])
        if left_rank is not None and right_rank is not None and left_rank < right_rank:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    return result + left[i:] + right[j:]

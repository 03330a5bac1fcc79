"""Server-side apply: merge a configuration into the live object, field by field, with an owner for each.

Source of the rules: sigs.k8s.io/structured-merge-diff, package merge (Updater.Apply).
"""

from datetime import datetime
from typing import Any

from corral.base.clock import rfc3339
from corral.kinds.apply import last_applied, managers
from corral.kinds.apply.conflicts import conflict_error
from corral.kinds.apply.fieldsets import Trie, difference, intersection, union
from corral.kinds.apply.nodes import FIELDS, ITEMS, LEAF, ApplySchema, Node, root_node
from corral.kinds.apply.walk import GONE, compare, fields_of, merge, with_named_members, without
from corral.kinds.patch.documents import copied, without_nulls
from corral.kinds.status import StatusError, bad_request
from corral.kinds.types import Obj


def apply(
    schema: ApplySchema,
    live: Obj | None,
    config: Obj,
    *,
    manager: str,
    force: bool,
    now: datetime,
    subresource: str = "",
) -> Obj:
    """The object that applying `config` to `live` (None if it does not exist yet) makes, managedFields included.

    Fields of `config` are set and owned by `manager`; fields that it applied before and left out now go away unless
    another applier has them. With `force`, fields of others are taken over. Applying the same again changes nothing,
    not even a time. The result shares nothing with the arguments but unchanged managedFields entries.

    Raises:
        StatusError: 400, `config` carries managedFields or a keyed list with missing or repeated keys; 409, a field
            belongs to another manager and has another value there.
    """
    if config["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    node = root_node(schema, subresource)
    wanted: Obj = without_nulls(config)
    _check_lists(node, wanted, "")
    base, held = _split(live, wanted)
    owned = fields_of(node, wanted)
    own, others = _own(held, manager, subresource)
    merged: Obj = merge(node, base, wanted)
    if own is not None and managers.fields(own):
        merged = _pruned(node, merged, managers.fields(own), [owned, *_appliers(others)])
    changed: Trie = {}
    removed: Trie = {}
    compare(node, base, merged, changed, removed)
    if not force:
        allowed = last_applied.recorded_fields(node, base) if manager == last_applied.KUBECTL else {}
        _refuse_conflicts(others, changed, allowed)
    kept = managers.lose(others, changed, removed)
    unchanged = (
        own is not None
        and own.get("apiVersion") == wanted["apiVersion"]
        and managers.fields(own) == owned
        and kept == others
        and merged == base
    )
    time = own.get("time", "") if own is not None and unchanged else rfc3339(now)
    fresh = managers.entry(manager, managers.APPLY, wanted["apiVersion"], time, owned, subresource)
    if live is not None and manager == last_applied.KUBECTL and not unchanged:
        last_applied.keep_current(merged, live, wanted)
    merged["metadata"]["managedFields"] = managers.ordered([*kept, fresh] if owned else kept)
    return merged


def _split(live: Obj | None, wanted: Obj) -> tuple[Obj, list[Obj]]:
    """The live object without its managedFields, and those."""
    if live is None:
        return {"metadata": {}}, []
    metadata = {name: value for name, value in live["metadata"].items() if name != "managedFields"}
    return {**live, "metadata": metadata}, live["metadata"].get("managedFields") or []


def _own(held: list[Obj], manager: str, subresource: str) -> tuple[Obj | None, list[Obj]]:
    identity = (manager, managers.APPLY, subresource, "")
    own = next((entry for entry in held if managers.identity(entry) == identity), None)
    return own, [entry for entry in held if entry is not own]


def _appliers(entries: list[Obj]) -> list[Trie]:
    return [managers.fields(entry) for entry in entries if entry.get("operation") == managers.APPLY]


def _pruned(node: Node, merged: Obj, last: Trie, applied: list[Trie]) -> Obj:
    """`merged` without what the manager applied last and nobody applies now."""
    claimed: Trie = {}
    for fields in applied:
        claimed = union(claimed, fields)
    last = with_named_members(node, last)
    present = with_named_members(node, fields_of(node, merged))
    bare = _taken_out(node, merged, last)
    # Taking out an item takes out all that is in it; give back what an applier owns.
    left = union(_present(node, bare), with_named_members(node, claimed))
    restored = _taken_out(node, merged, difference(present, left))
    # And give back what the manager never owned, such as fields of plain writers.
    gone = intersection(difference(present, _present(node, restored)), last)
    return _taken_out(node, merged, gone)


def _present(node: Node, obj: Obj) -> Trie:
    return with_named_members(node, fields_of(node, obj))


def _taken_out(node: Node, obj: Obj, gone: Trie) -> Obj:
    rest: Any = without(node, obj, gone)
    found: Obj = copied(rest) if rest is not GONE else {"metadata": {}}
    return found


def _refuse_conflicts(others: list[Obj], changed: Trie, allowed: Trie) -> None:
    conflicts = []
    for entry in others:
        lost = difference(intersection(managers.fields(entry), changed), allowed)
        if lost:
            conflicts.append((entry, lost))
    if conflicts:
        raise conflict_error(conflicts)


def _check_lists(node: Node, value: Any, path: str) -> None:
    """Refuse keyed lists whose items cannot be told apart."""
    if node.shape == LEAF:
        return
    if node.shape == FIELDS:
        for name, item in value.items() if isinstance(value, dict) else ():
            child = node.child(name)
            if child.node is not None and isinstance(item, dict | list):
                _check_lists(child.node, item, f"{path}.{name}")
        return
    seen: set[str] = set()
    for place, item in enumerate(value if isinstance(value, list) else ()):
        _check_item(node, item, seen, f"{path}[{place}]")
        _check_lists(node.item, item, f"{path}[{place}]")


def _check_item(node: Node, item: Any, seen: set[str], path: str) -> None:
    if node.shape == ITEMS:
        if not isinstance(item, dict):
            raise _malformed(path, "must be an object")
        missing = [key for key in node.keys if key not in node.key_values(item)]
        if missing:
            raise _malformed(path, f"omits the key field {missing[0]!r}, which tells the items of the list apart")
    element = node.element(item)
    if element in seen:
        raise _malformed(path, f"stands twice in the list: {element[2:]}")
    seen.add(element)


def _malformed(path: str, why: str) -> StatusError:
    return bad_request(f"cannot apply the configuration: {path} {why}")

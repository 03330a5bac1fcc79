"""`metadata.managedFields`: who owns which fields, as the list of entries that the object carries.

An entry is told apart by manager, operation and subresource, and for plain writes also by API version.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from corral.kinds.apply.fieldsets import Trie, difference, union
from corral.kinds.types import Obj

APPLY: Final = "Apply"
UPDATE: Final = "Update"
MAX_UPDATERS: Final = 10
"""Above this many entries of plain writes, the oldest are merged (apimachinery's DefaultMaxUpdateManagers)."""
ANCIENT: Final = "ancient-changes"


def identity(entry: Obj) -> tuple[str, str, str, str]:
    """What tells an entry from the others."""
    operation = entry.get("operation", "")
    version = entry.get("apiVersion", "") if operation == UPDATE else ""
    return entry.get("manager", ""), operation, entry.get("subresource", ""), version


def fields(entry: Obj) -> Trie:
    """The fields that an entry owns."""
    found: Trie = entry.get("fieldsV1") or {}
    return found


def entry(manager: str, operation: str, api_version: str, time: str, owned: Trie, subresource: str) -> Obj:
    """An entry as it stands in an object."""
    made: Obj = {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "time": time,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
    }
    if subresource:
        made["subresource"] = subresource
    return made


def before_write(live: Any, sent: Any, *, subresource: str) -> list[Obj]:
    """The entries that a write starts from: those it sends, or those of the live object if it sends none.

    A client that does not know the field cannot lose it; a list with one empty entry resets it. Subresources cannot
    set it.
    """
    if not subresource and isinstance(sent, list) and sent:
        if sent == [{}]:
            return []
        if all(_is_readable(item) for item in sent):
            return [item for item in sent if item["fieldsV1"]]
    return live if isinstance(live, list) else []


def _is_readable(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("operation") in (APPLY, UPDATE)
        and item.get("fieldsType") == "FieldsV1"
        and isinstance(item.get("fieldsV1"), dict)
    )


def lose(entries: Iterable[Obj], *gone: Trie) -> list[Obj]:
    """The entries without the fields in `gone`; those that own nothing any more are dropped."""
    kept = []
    for held in entries:
        owned = fields(held)
        for lost in gone:
            owned = difference(owned, lost)
        if owned:
            kept.append(held if owned is fields(held) else {**held, "fieldsV1": owned})
    return kept


def ordered(entries: Iterable[Obj]) -> list[Obj]:
    """Appliers first, then by time, as Kubernetes writes the list."""
    return sorted(
        entries,
        key=lambda held: (
            held.get("operation", ""),
            held.get("time", ""),
            held.get("manager", ""),
            held.get("apiVersion", ""),
            held.get("subresource", ""),
        ),
    )


def capped(entries: Sequence[Obj]) -> list[Obj]:
    """The entries with the oldest plain writes merged, one `ancient-changes` a version, if there are too many."""
    updaters = [held for held in entries if held.get("operation") == UPDATE]
    excess = len(updaters) - MAX_UPDATERS
    if excess <= 0:
        return list(entries)
    updaters.sort(key=lambda held: (held.get("time", ""), held.get("manager", "")))
    kept = [held for held in entries if held.get("operation") != UPDATE]
    firsts: dict[str, int] = {}
    buckets: list[Obj] = []
    for place, held in enumerate(updaters):
        version = held.get("apiVersion", "")
        if excess <= 0:
            kept += updaters[place:]
            break
        if version in firsts:
            buckets[firsts[version]] = _merged_into_bucket(buckets[firsts[version]], held)
            excess -= 1
        else:
            firsts[version] = len(buckets)
            buckets.append(held)
    return kept + buckets


def _merged_into_bucket(bucket: Obj, held: Obj) -> Obj:
    owned = union(fields(bucket), fields(held))
    return entry(ANCIENT, UPDATE, held.get("apiVersion", ""), held.get("time", ""), owned, "")

"""What an apply would take from others, in Kubernetes' words.

Source: apimachinery, util/managedfields/internal/conflict.go.
"""

from collections.abc import Sequence

from corral.kinds.apply.fieldsets import Trie, paths
from corral.kinds.apply.managers import UPDATE
from corral.kinds.status import Cause, StatusError
from corral.kinds.types import Obj

Conflicts = Sequence[tuple[Obj, Trie]]
"""Entries of other managers, each with the fields that it would lose."""


def conflict_error(conflicts: Conflicts) -> StatusError:
    """409 with one FieldManagerConflict cause a field."""
    found = [(_manager(entry), path) for entry, fields in conflicts for path in paths(fields)]
    found.sort()
    causes = [Cause("FieldManagerConflict", f"conflict with {manager}", path) for manager, path in found]
    return StatusError(409, "Conflict", _message(found), causes=causes)


def _message(found: Sequence[tuple[str, str]]) -> str:
    if len(found) == 1:
        manager, path = found[0]
        return f"Apply failed with 1 conflict: conflict with {manager}: {path}"
    by_manager: dict[str, list[str]] = {}
    for manager, path in found:
        by_manager.setdefault(manager, []).append(path)
    said = "\n".join(
        f"conflicts with {manager}:\n" + "\n".join(f"- {path}" for path in fields)
        for manager, fields in by_manager.items()
    )
    return f"Apply failed with {len(found)} conflicts: {said}"


def _manager(entry: Obj) -> str:
    said = f'"{entry.get("manager", "")}"'
    if entry.get("subresource"):
        said += f' with subresource "{entry["subresource"]}"'
    return f"{said} using {entry.get('apiVersion', '')}" if entry.get("operation") == UPDATE else said

"""`status.conditions`: reading and setting them, with `lastTransitionTime` moving only when the status does."""

from datetime import datetime
from typing import Any

from corral.base.clock import rfc3339
from corral.kinds.types import Obj


def get(obj: Obj, type_: str) -> Obj | None:
    """The condition of that type in `obj.status.conditions`, or None."""
    status = obj.get("status")
    for condition in (status.get("conditions") if status else None) or ():
        if condition.get("type") == type_:
            found: Obj = condition
            return found
    return None


def is_true(obj: Obj, type_: str) -> bool:
    """Whether the condition is there and says `True`."""
    condition = get(obj, type_)
    return condition is not None and condition.get("status") == "True"


def node_troubles(node: Obj) -> list[Obj]:
    """The conditions of a Node that say more than that all is well: of all of them but Ready, `False` is well."""
    held = (node.get("status") or {}).get("conditions") or ()
    return [one for one in held if one.get("status") != ("True" if one.get("type") == "Ready" else "False")]


def set_condition(
    obj: Obj, type_: str, status: str, *, now: datetime, reason: str = "", message: str = "", **extra: Any
) -> bool:
    """Set a condition in `obj.status.conditions` in place; `extra` are further fields (`observedGeneration`, ...).

    Returns whether anything changed. A field in `extra` that is None is removed.
    """
    wanted: Obj = {"type": type_, "status": status, "reason": reason, "message": message, **extra}
    present = get(obj, type_)
    if present is None:
        fresh = {key: value for key, value in wanted.items() if value not in (None, "")}
        fresh["lastTransitionTime"] = rfc3339(now)
        status_of = obj.setdefault("status", {})
        if status_of.get("conditions") is None:
            status_of["conditions"] = []
        status_of["conditions"].append(fresh)
        return True
    changed = False
    if present.get("status") != status:
        present["lastTransitionTime"] = rfc3339(now)
        changed = True
    for key, value in wanted.items():
        if value in (None, ""):
            changed = present.pop(key, None) is not None or changed
        elif present.get(key) != value:
            present[key] = value
            changed = True
    return changed


def remove(obj: Obj, type_: str) -> bool:
    """Remove a condition in place; returns whether it was there."""
    held = (obj.get("status") or {}).get("conditions") or []
    kept = [condition for condition in held if condition.get("type") != type_]
    if len(kept) == len(held):
        return False
    obj["status"]["conditions"] = kept
    return True

"""What an older Corral's roles lack. Pure.

As Kubernetes does at each start (its reconciliation of default roles): rules and subjects that are missing are added,
those that somebody has added stay, and an object whose annotation says `autoupdate: "false"` is its owner's.
"""

from typing import Final

from corral.kinds.types import Obj

AUTOUPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
_FIELDS: Final = {"Role": "rules", "ClusterRole": "rules", "RoleBinding": "subjects", "ClusterRoleBinding": "subjects"}


def lacking(wanted: Obj, found: Obj) -> Obj | None:
    """The merge patch that brings `found` up to date; None if it lacks nothing, or is not ours to change."""
    field = _FIELDS.get(wanted["kind"])
    annotations = found["metadata"].get("annotations") or {}
    # The rules of an aggregate are those of other roles.
    if field is None or annotations.get(AUTOUPDATE) != "true" or wanted.get("aggregationRule"):
        return None
    have = found.get(field) or []
    missing = [one for one in wanted.get(field) or [] if one not in have]
    return {field: [*have, *missing]} if missing else None

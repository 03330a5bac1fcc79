"""JSON merge patch, RFC 7386."""

from typing import Any

from corral.kinds.patch.documents import copied
from corral.kinds.status import bad_request
from corral.kinds.types import Obj


def merge_patch(obj: Obj, patch: Any) -> Obj:
    """`obj` with `patch` merged in: null removes a member, an object merges, anything else replaces.

    The result shares what did not change with `obj`, and nothing with `patch`.

    Raises:
        StatusError: 400, the patch is not an object.
    """
    if not isinstance(patch, dict):
        raise bad_request("cannot apply the merge patch: it must be a JSON object")
    merged: Obj = _merged(obj, patch)
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copied(patch)
    # Members keep their place, so that a patched object reads like the one before.
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result

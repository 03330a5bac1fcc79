"""JSON merge patch, RFC 7386."""

from typing import Any

from corral.kinds.patch.documents import copied
from corral.kinds.status import bad_request
from corral.kinds.types import Obj


def merge_patch(obj: Obj, patch: Any) -> Obj:
    """`obj` with `patch` merged in: null removes a member, an object merges, anything else replaces.

    The result shares nothing with the arguments.

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
    base = target if isinstance(target, dict) else {}
    result = {name: copied(value) for name, value in base.items() if name not in patch}
    for name, value in patch.items():
        if value is not None:
            result[name] = _merged(base.get(name), value)
    # Members keep their place, so that a patched object reads like the one before.
    return {name: result[name] for name in [*(n for n in base if n in result), *(n for n in result if n not in base)]}

"""The patches: JSON (RFC 6902), merge (RFC 7386) and strategic merge. Server-side apply is `corral.kinds.apply`.

Every function returns a new object and changes none of its arguments. Only that of a merge patch shares anything with
them: the parts of the old object that did not change.
"""

from typing import Final

from corral.kinds.patch.documents import copied
from corral.kinds.patch.json import json_patch
from corral.kinds.patch.merge import merge_patch
from corral.kinds.patch.strategic import PatchSchema, strategic_merge_patch
from corral.kinds.status import unsupported_media_type

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

_BUILT_IN: Final = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
_CUSTOM: Final = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


def check_patch_type(content_type: str, *, custom: bool) -> None:
    """Refuse a patch of a type that the kind does not take; custom resources take no strategic merge patch.

    Raises:
        StatusError: 415, naming the types that are taken.
    """
    accepted = _CUSTOM if custom else _BUILT_IN
    if content_type not in accepted:
        raise unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
        )


__all__ = [
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC_MERGE_PATCH",
    "PatchSchema",
    "check_patch_type",
    "copied",
    "json_patch",
    "merge_patch",
    "strategic_merge_patch",
]

"""The rules of `metadata` that no schema can say: what the server sets, what never changes, what names look like."""

import random
from typing import Any

from corral.apiserver.context import Context
from corral.base.ids import new_uid, suffix
from corral.kinds.status import Cause, StatusError, bad_request, conflict, invalid
from corral.kinds.types import Obj

_TEXTS = ("name", "generateName", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_MAPS = ("labels", "annotations")
_LISTS = ("finalizers", "ownerReferences", "managedFields")
_LONGEST_GENERATED_BASE = 63 - 5


def shape(obj: Obj) -> Obj:
    """`metadata` of a body, present and of the right JSON types; empty entries are dropped.

    Raises:
        StatusError: 400, naming the field.
    """
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise bad_request("metadata: must be an object")
    for field in [field for field, value in metadata.items() if value is None]:
        del metadata[field]
    for field in _TEXTS:
        if not isinstance(metadata.get(field, ""), str):
            raise bad_request(f"metadata.{field}: must be a string")
    for field in _MAPS:
        _check_map(field, metadata.get(field, {}))
    for field in _LISTS:
        if field in metadata and not isinstance(metadata[field], list):
            raise bad_request(f"metadata.{field}: must be an array")
    if not all(isinstance(item, str) for item in metadata.get("finalizers", ())):
        raise bad_request("metadata.finalizers: must be an array of strings")
    for field in ("ownerReferences", "managedFields"):
        if not all(isinstance(item, dict) for item in metadata.get(field, ())):
            raise bad_request(f"metadata.{field}: must be an array of objects")
    metadata.pop("selfLink", None)
    return metadata


def _check_map(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise bad_request(f"metadata.{field}: must be an object of strings")
    for key, text in value.items():
        if not isinstance(text, str):
            if text is None:
                value[key] = ""
                return _check_map(field, value)
            raise bad_request(f'metadata.{field}.{key}: must be a string (quote it: {key}: "{text}")')
    return None


def match_url(metadata: Obj, ctx: Context) -> None:
    """Take name and namespace from the URL where the body has none.

    Raises:
        StatusError: 400 if the body names others than the URL.
    """
    if ctx.kind.resource.namespaced:
        if metadata.setdefault("namespace", ctx.namespace) != ctx.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request: "
                f'"{metadata["namespace"]}" is not "{ctx.namespace}"'
            )
    else:
        metadata.pop("namespace", None)
    if ctx.name and metadata.setdefault("name", ctx.name) != ctx.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({ctx.name})"
        )


def stamp(metadata: Obj, now: str) -> None:
    """What only the server sets on a new object."""
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
        metadata.pop(field, None)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = now


def generate_name(metadata: Obj, rng: random.Random) -> None:
    """A name from `generateName`."""
    metadata["name"] = metadata["generateName"][:_LONGEST_GENERATED_BASE] + suffix(rng)


def need_name(metadata: Obj, ctx: Context) -> None:
    """Raise 422 if there is neither a name nor a prefix for one."""
    if not metadata.get("name") and not metadata.get("generateName"):
        cause = Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")
        raise invalid(ctx.group, ctx.kind.resource.kind, "", [cause])


def carry_over(metadata: Obj, old: Obj) -> None:
    """Keep what an update may leave out and what it may not change silently."""
    metadata.setdefault("uid", old.get("uid", ""))
    metadata["creationTimestamp"] = old.get("creationTimestamp")
    if "generateName" in old:
        metadata.setdefault("generateName", old["generateName"])
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if field in old:
            metadata.setdefault(field, old[field])
        else:
            metadata.pop(field, None)
    if "generation" in old:
        metadata["generation"] = old["generation"]
    else:
        metadata.pop("generation", None)


def check_uid(ctx: Context, given: str, actual: str) -> None:
    """Raise 409 if the caller means another incarnation of the object."""
    if given and given != actual:
        why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {actual}"
        raise conflict(ctx.group, ctx.plural, ctx.name, why)


def check_revision(ctx: Context, given: str, actual: int) -> None:
    """Raise 409 if the caller's precondition on resourceVersion does not hold."""
    if given and given != str(actual):
        why = f"Precondition failed: ResourceVersion in precondition: {given}, ResourceVersion in object meta: {actual}"
        raise conflict(ctx.group, ctx.plural, ctx.name, why)


def bad_version(given: str) -> StatusError:
    """The refusal of a resourceVersion that is none."""
    return bad_request(f"invalid resourceVersion {given!r}: must be the one that the server gave")

"""Finalizers: names in `metadata.finalizers` that hold an object back from deletion until their owner lets go."""

from corral.client.client import Client
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource


def has(obj: Obj, finalizer: str) -> bool:
    """Whether `finalizer` holds `obj`."""
    return finalizer in (obj["metadata"].get("finalizers") or ())


def is_deleting(obj: Obj) -> bool:
    """Whether deletion has been asked for."""
    return bool(obj["metadata"].get("deletionTimestamp"))


async def add(client: Client, resource: Resource, obj: Obj, finalizer: str) -> Obj:
    """`obj` held by `finalizer`; unchanged if it is already.

    Raises:
        StatusError: 409 if `obj` is not the latest.
    """
    if has(obj, finalizer):
        return obj
    return await _set(client, resource, obj, [*(obj["metadata"].get("finalizers") or ()), finalizer])


async def remove(client: Client, resource: Resource, obj: Obj, finalizer: str) -> Obj | None:
    """`obj` without `finalizer`; None if the object is gone, which serves as well.

    Raises:
        StatusError: 409 if `obj` is not the latest.
    """
    if not has(obj, finalizer):
        return obj
    rest = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
    try:
        return await _set(client, resource, obj, rest)
    except StatusError as error:
        if error.code == 404:
            return None
        raise


async def _set(client: Client, resource: Resource, obj: Obj, finalizers: list[str]) -> Obj:
    metadata = obj["metadata"]
    identity = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    patch = {"metadata": {**identity, "finalizers": finalizers or None}}
    return await client.patch(resource, metadata["name"], patch, metadata.get("namespace", ""))

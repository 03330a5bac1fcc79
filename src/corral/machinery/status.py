"""Writing an object's status."""

from corral.client.client import Client
from corral.kinds.types import Obj, Resource


async def write_status(client: Client, resource: Resource, obj: Obj, status: Obj) -> Obj:
    """Make `status` the status of `obj` and return the object as it is then; nothing is sent if it is already so.

    Raises:
        StatusError: 409 if `obj` is not the latest, 404 if it is gone.
    """
    if (obj.get("status") or {}) == status:
        return obj
    return await client.update(resource, {**obj, "status": status}, "status")

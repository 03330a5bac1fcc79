"""Keeps the ControllerRevisions of an owner as its `History` says, and takes in those that nobody holds."""

from corral.client.client import Client
from corral.client.informer import Informer
from corral.controllers.pods.claim import adoption_patch, claim
from corral.controllers.pods.history import HASH_LABEL, History, collisions
from corral.controllers.pods.pods import CONTROLLER_INDEX, orphan_key
from corral.kinds.owners import controller_of, is_controlled_by
from corral.kinds.resources import CONTROLLER_REVISIONS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.machinery.status import write_status

TAKEN = "the name of the present template's revision is taken; trying another"


async def held(client: Client, owner: Obj, revisions: Informer) -> list[Obj]:
    """The owner's revisions, after adopting those that a former owner of its name has left.

    Args:
        revisions: has the index `CONTROLLER_INDEX`.

    Raises:
        StatusError: a write was refused.
    """
    metadata = owner["metadata"]
    owned = revisions.index(CONTROLLER_INDEX, metadata["uid"])
    orphans = revisions.index(CONTROLLER_INDEX, orphan_key(metadata["namespace"]))
    found = list(owned)
    for orphan in claim(owner, LabelSelector.from_object(owner["spec"].get("selector")), (), orphans).adopt:
        name = orphan["metadata"]["name"]
        if name == f"{metadata['name']}-{orphan['metadata']['labels'].get(HASH_LABEL)}":
            patch = adoption_patch(orphan, owner)
            found.append(await client.patch(CONTROLLER_REVISIONS, name, patch, metadata["namespace"]))
    return found


async def keep(client: Client, resource: Resource, owner: Obj, past: History) -> bool:
    """Make the present template the latest revision, and forget what is too old; False if its name is somebody else's.

    Raises:
        StatusError: a write was refused.
    """
    if past.create is not None and not await _create(client, resource, owner, past.create):
        return False
    if past.renumber is not None:
        found, number = past.renumber
        metadata = found["metadata"]
        await client.patch(CONTROLLER_REVISIONS, metadata["name"], {"revision": number}, metadata["namespace"])
    for found in past.forget:
        metadata = found["metadata"]
        await client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
    return True


async def _create(client: Client, resource: Resource, owner: Obj, wanted: Obj) -> bool:
    """Create a revision; False, and a collision counted, if its name belongs to another owner or template."""
    metadata = wanted["metadata"]
    try:
        await client.create(CONTROLLER_REVISIONS, wanted)
    except StatusError as error:
        if error.reason != "AlreadyExists":
            raise
        present = await client.get(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"])
        if is_controlled_by(present, owner) and present["data"] == wanted["data"]:
            return True
        if controller_of(present) is None:  # it is adopted when the cache shows it
            raise
        status = owner.get("status") or {}
        await write_status(client, resource, owner, {**status, "collisionCount": collisions(owner) + 1})
        return False
    return True

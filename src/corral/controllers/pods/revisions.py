"""Keeps the ControllerRevisions of an owner as its `History` says, and takes in those that nobody holds."""

from corral.client.client import Client
from corral.client.informer import Informer
from corral.controllers.pods.claim import adoption_patch, claim
from corral.controllers.pods.history import HASH_LABEL, History
from corral.controllers.pods.pods import CONTROLLER_INDEX, orphan_key
from corral.kinds.resources import CONTROLLER_REVISIONS
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Obj


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


async def keep(client: Client, past: History) -> None:
    """Make the present template the latest revision, and forget what is too old.

    Raises:
        StatusError: a write was refused.
    """
    if past.create is not None:
        await client.create(CONTROLLER_REVISIONS, past.create)
    if past.renumber is not None:
        found, number = past.renumber
        metadata = found["metadata"]
        await client.patch(CONTROLLER_REVISIONS, metadata["name"], {"revision": number}, metadata["namespace"])
    for found in past.forget:
        metadata = found["metadata"]
        await client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"], uid=metadata["uid"])

"""Keeps the ControllerRevisions of an owner as its `History` says."""

from corral.client.client import Client
from corral.controllers.pods.history import History
from corral.kinds.resources import CONTROLLER_REVISIONS


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

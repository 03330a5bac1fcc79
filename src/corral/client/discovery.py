"""Which resources the server has: for work that spans all kinds."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from corral.client.client import Client
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource


@dataclass(frozen=True, slots=True)
class Served:
    """A resource in its preferred version, and what can be done with it."""

    resource: Resource
    verbs: frozenset[str]


async def discover(client: Client) -> Sequence[Served]:
    """Every resource of the server, each in its group's preferred version, without subresources.

    Raises:
        StatusError: the server's groups cannot be read. A single group that fails (409, 5xx) fails the whole, so that
            nobody takes "not listed" for "does not exist".
    """
    groups = (await client.raw("/apis")).get("groups") or []
    versions = [("", "v1")]
    for group in groups:
        # All versions, the preferred first: a resource may exist in an older version only.
        preferred = (group.get("preferredVersion") or {}).get("version")
        listed = [version["version"] for version in group["versions"]]
        ordered = sorted(listed, key=lambda version: version != preferred)
        versions += [(group["name"], version) for version in ordered]
    answers = await asyncio.gather(*(_resources(client, group, version) for group, version in versions))
    found: dict[tuple[str, str], Served] = {}
    for (group, version), resources in zip(versions, answers, strict=True):
        for row in resources:
            if "/" not in row["name"] and (group, row["name"]) not in found:
                resource = Resource(group, version, row["name"], row["kind"], bool(row.get("namespaced")))
                found[(group, row["name"])] = Served(resource, frozenset(row.get("verbs") or ()))
    return list(found.values())


async def _resources(client: Client, group: str, version: str) -> list[Obj]:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        answer = await client.raw(path)
    except StatusError as error:
        if error.code == 404:
            # Removed between the two questions.
            return []
        raise
    resources: list[Obj] = answer.get("resources") or []
    return resources

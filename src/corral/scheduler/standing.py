"""What of a workload is there already: its pods, and whether they would stay."""

from dataclasses import dataclass

from corral.client.client import Client
from corral.kinds.owners import is_controlled_by
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import CRON_JOBS, DEPLOYMENTS, PODS, REPLICA_SETS
from corral.kinds.types import Obj, Resource

_KEEP_PODS = ("Job", "ReplicaSet", "ReplicationController")
"""Whose pods stay when their template changes."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The living pods of a workload."""

    pods: tuple[Obj, ...] = ()
    stay: bool = True
    """False if a changed template replaces all of them."""


NOTHING = Standing()


async def standing(client: Client, resource: Resource, before: Obj, after: Obj) -> Standing:
    """What is there of the workload that is `before`, seen from what it would be, `after`.

    Raises:
        StatusError: the client may not list pods or ReplicaSets.
    """
    namespace = before["metadata"]["namespace"]
    if resource == PODS:
        return Standing((before,))
    if resource == CRON_JOBS:
        # Its next run is a new Job.
        return NOTHING
    owners = [before]
    if resource == DEPLOYMENTS:
        sets = (await client.list(REPLICA_SETS, namespace))["items"]
        owners = [one for one in sets if is_controlled_by(one, before)]
    listed = (await client.list(PODS, namespace))["items"]
    there = tuple(
        pod
        for pod in listed
        if any(is_controlled_by(pod, owner) for owner in owners)
        and not is_terminal(pod)
        and not pod["metadata"].get("deletionTimestamp")
    )
    stay = resource.kind in _KEEP_PODS or before["spec"]["template"] == after["spec"]["template"]
    return Standing(there, stay)

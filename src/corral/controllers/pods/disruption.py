"""Ending a pod that did nothing wrong: it is marked, so that whoever counts failures can tell, and deleted."""

from datetime import datetime

from corral.base.clock import rfc3339
from corral.client.api import STRATEGIC_MERGE_PATCH
from corral.client.client import Client
from corral.kinds.resources import PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


async def disrupt(client: Client, pod: Obj, reason: str, message: str, now: datetime) -> bool:
    """Set the condition DisruptionTarget and delete the pod, with its own grace; whether it was still there.

    Raises:
        StatusError: the server refused.
    """
    metadata = pod["metadata"]
    name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": rfc3339(now),
    }
    patch: Obj = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
    try:
        await client.patch(PODS, name, patch, namespace, STRATEGIC_MERGE_PATCH, "status")
        await client.delete(PODS, name, namespace, uid=uid)
    except StatusError as error:
        # It is gone, or another pod has its name by now.
        if error.code not in (404, 409):
            raise
        return False
    return True

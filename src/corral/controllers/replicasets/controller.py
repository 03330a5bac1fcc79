"""Performs what `plan` says, and keeps the status."""

from collections import Counter
from collections.abc import Iterable, Sequence

from corral.client.client import Client
from corral.client.informer import Informer
from corral.controllers.pods.batches import Outcome, slow_start
from corral.controllers.pods.claim import adoption_patch, claim, release_patch
from corral.controllers.pods.pods import (
    CONTROLLER_INDEX,
    controller_index,
    from_template,
    is_active,
    orphan_key,
    owner_name,
)
from corral.controllers.replicasets.plan import Plan, plan, status
from corral.kinds.owners import controller_of
from corral.kinds.resources import PODS, REPLICA_SETS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.refusals import namespace_ends
from corral.machinery.status import write_status


class ReplicaSetController:
    """Keeps each ReplicaSet's pods at the number asked for."""

    name = "replicaset-controller"
    reads = (REPLICA_SETS, PODS)
    writes = ("pods", "replicasets/status")

    _tools: Tools
    _sets: Informer
    _pods: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._sets = tools.caches.get(REPLICA_SETS)
        self._pods = tools.caches.get(PODS)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._sets.add_index(CONTROLLER_INDEX, controller_index)
        self._sets.add_index("namespace", lambda obj: [obj["metadata"]["namespace"]])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A ReplicaSet's own key; a pod's owner, or whoever may adopt it."""
        if resource == REPLICA_SETS:
            return [key_of(obj)]
        namespace = obj["metadata"]["namespace"]
        if controller_of(obj) is not None:
            name = owner_name(obj, REPLICA_SETS)
            return [Key(namespace, name)] if name else []
        labels = obj["metadata"].get("labels") or {}
        return [
            key_of(owner)
            for owner in self._sets.index("namespace", namespace)
            if LabelSelector.from_object(owner["spec"]["selector"]).matches(labels)
        ]

    async def reconcile(self, key: Key) -> Result:
        """One step towards the number of pods asked for."""
        replica_set = self._sets.get(key)
        if replica_set is None:
            return Done()
        pods = await self._claimed(replica_set)
        now = self._tools.clock.now()
        step = plan(replica_set, pods, now, crowding=self._crowding(replica_set))
        failure: tuple[str, str] | None = None
        refused = (await self._perform(replica_set, step)).refused
        if refused is not None:
            if namespace_ends(refused):
                return Done()
            failure = ("FailedCreate" if step.create else "FailedDelete", refused.message)
        wanted = status(replica_set, pods, now, failure=failure)
        await write_status(self._tools.client, REPLICA_SETS, replica_set, wanted)
        if failure is not None:
            return Temporary(failure[1])
        return Done() if step.look_again is None else Requeue(step.look_again)

    async def _claimed(self, replica_set: Obj) -> Sequence[Obj]:
        metadata = replica_set["metadata"]
        claimed = claim(
            replica_set,
            LabelSelector.from_object(replica_set["spec"]["selector"]),
            self._pods.index(CONTROLLER_INDEX, metadata["uid"]),
            self._pods.index(CONTROLLER_INDEX, orphan_key(metadata["namespace"])),
        )
        held = [pod for pod in claimed.held if pod["metadata"]["namespace"] == metadata["namespace"]]
        for pod in claimed.adopt:
            if is_active(pod):
                adopted = await _patch(self._tools.client, pod, adoption_patch(pod, replica_set))
                held += [adopted] if adopted is not None else []
        for pod in claimed.release:
            await _patch(self._tools.client, pod, release_patch(pod, replica_set))
        return held

    def _crowding(self, replica_set: Obj) -> "Crowding":
        """How many pods of the ReplicaSet's owner (all its ReplicaSets) share each machine."""
        owner = controller_of(replica_set)
        uid = owner["uid"] if owner is not None else ""
        sets = self._sets.index(CONTROLLER_INDEX, uid) if uid else [replica_set]
        machines: Counter[str] = Counter()
        for sibling in sets:
            for pod in self._pods.index(CONTROLLER_INDEX, sibling["metadata"]["uid"]):
                if is_active(pod):
                    machines[(pod.get("spec") or {}).get("nodeName", "")] += 1
        return Crowding(machines)

    async def _perform(self, replica_set: Obj, step: Plan) -> Outcome:
        async def create(number: int) -> None:
            await self._create(replica_set)

        async def delete(pod: Obj) -> None:
            await self._delete(replica_set, pod)

        if step.create:
            return await slow_start(range(step.create), create)
        return await slow_start(step.delete, delete)

    async def _create(self, replica_set: Obj) -> None:
        pod = from_template(replica_set["spec"]["template"], replica_set)
        events = self._tools.events
        try:
            made = await self._tools.client.create(PODS, pod)
        except StatusError as error:
            if not namespace_ends(error):
                events.record(replica_set, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        events.record(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, replica_set: Obj, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._tools.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as error:
            if error.code in (404, 409):
                return
            message = f"Error deleting: {error.message}"
            self._tools.events.record(replica_set, "Warning", "FailedDelete", message)
            raise
        self._tools.events.record(replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")


class Crowding:
    """Pods of one owner per machine, as `rank.victims` asks for it."""

    def __init__(self, machines: Counter[str]) -> None:
        self._machines = machines

    def __call__(self, pod: Obj) -> int:
        return self._machines[(pod.get("spec") or {}).get("nodeName", "")]


async def _patch(client: Client, pod: Obj, patch: Obj) -> Obj | None:
    metadata = pod["metadata"]
    try:
        return await client.patch(PODS, metadata["name"], patch, metadata["namespace"])
    except StatusError as error:
        if error.code == 404:
            return None
        raise

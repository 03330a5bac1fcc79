"""Performs what `plan` and `history` say."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.daemonsets.history import History, history
from corral.controllers.daemonsets.plan import HASH_LABEL, new_pod, plan
from corral.controllers.pods.batches import slow_start
from corral.controllers.pods.claim import adoption_patch, claim, release_patch
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, is_active, orphan_key, owner_name
from corral.kinds.owners import controller_of
from corral.kinds.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.refusals import namespace_ends
from corral.machinery.status import write_status


class DaemonSetController:
    """Keeps one pod of each DaemonSet on each machine that fits."""

    name = "daemon-set-controller"
    reads = (DAEMON_SETS, PODS, NODES, CONTROLLER_REVISIONS)
    writes = ("pods", "daemonsets/status", "controllerrevisions")

    _tools: Tools
    _sets: Informer
    _pods: Informer
    _nodes: Informer
    _revisions: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._sets, self._pods, self._nodes, self._revisions = map(tools.caches.get, self.reads)
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._revisions.add_index(CONTROLLER_INDEX, controller_index)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A DaemonSet's own key, a pod's or revision's owner or adopter, and every DaemonSet for a machine."""
        if resource == DAEMON_SETS:
            return [key_of(obj)]
        if resource == NODES:
            return [key_of(found) for found in self._sets.items()]
        namespace = obj["metadata"]["namespace"]
        if controller_of(obj) is not None:
            name = owner_name(obj, DAEMON_SETS)
            return [Key(namespace, name)] if name else []
        labels = obj["metadata"].get("labels") or {}
        return [
            key_of(found)
            for found in self._sets.items()
            if found["metadata"]["namespace"] == namespace
            and LabelSelector.from_object(found["spec"]["selector"]).matches(labels)
        ]

    async def reconcile(self, key: Key) -> Result:
        """One step towards a pod on each machine."""
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            return Done()
        pods = await self._claimed(daemon_set)
        revisions = self._revisions.index(CONTROLLER_INDEX, daemon_set["metadata"]["uid"])
        in_use = frozenset(pod["metadata"]["labels"].get(HASH_LABEL, "") for pod in pods)
        past = history(daemon_set, revisions, in_use)
        await self._record(past)
        step = plan(daemon_set, pods, list(self._nodes.items()), past.current, self._tools.clock.now())

        async def create(machine: str) -> None:
            await self._create(daemon_set, new_pod(daemon_set, machine, past.current))

        async def delete(pod: Obj) -> None:
            await self._delete(daemon_set, pod)

        removed = await slow_start(step.delete, delete)
        made = await slow_start(step.create, create)
        refused = removed.refused or made.refused
        if refused is not None and namespace_ends(refused):
            return Done()
        await write_status(self._tools.client, DAEMON_SETS, daemon_set, step.status)
        if refused is not None:
            return Temporary(refused.message)
        return Done() if step.look_again is None else Requeue(step.look_again)

    async def _claimed(self, daemon_set: Obj) -> Sequence[Obj]:
        metadata = daemon_set["metadata"]
        namespace = metadata["namespace"]
        claimed = claim(
            daemon_set,
            LabelSelector.from_object(daemon_set["spec"]["selector"]),
            self._pods.index(CONTROLLER_INDEX, metadata["uid"]),
            self._pods.index(CONTROLLER_INDEX, orphan_key(namespace)),
        )
        client = self._tools.client
        held = [pod for pod in claimed.held if pod["metadata"]["namespace"] == namespace]
        for pod in claimed.adopt:
            if is_active(pod):
                patch = adoption_patch(pod, daemon_set)
                held.append(await client.patch(PODS, pod["metadata"]["name"], patch, namespace))
        for pod in claimed.release:
            await client.patch(PODS, pod["metadata"]["name"], release_patch(pod, daemon_set), namespace)
        return held

    async def _record(self, past: History) -> None:
        client = self._tools.client
        if past.create is not None:
            await client.create(CONTROLLER_REVISIONS, past.create)
        if past.renumber is not None:
            found, number = past.renumber
            metadata = found["metadata"]
            await client.patch(CONTROLLER_REVISIONS, metadata["name"], {"revision": number}, metadata["namespace"])
        for found in past.forget:
            metadata = found["metadata"]
            await client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"], uid=metadata["uid"])

    async def _create(self, daemon_set: Obj, pod: Obj) -> None:
        events = self._tools.events
        try:
            made = await self._tools.client.create(PODS, pod)
        except StatusError as error:
            if not namespace_ends(error):
                events.record(daemon_set, "Warning", "FailedCreate", f"Error creating: {error.message}")
            raise
        events.record(daemon_set, "Normal", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, daemon_set: Obj, pod: Obj) -> None:
        metadata = pod["metadata"]
        try:
            await self._tools.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except StatusError as error:
            if error.code in (404, 409):
                return
            self._tools.events.record(daemon_set, "Warning", "FailedDelete", f"Error deleting: {error.message}")
            raise
        self._tools.events.record(daemon_set, "Normal", "SuccessfulDelete", f"Deleted pod: {metadata['name']}")

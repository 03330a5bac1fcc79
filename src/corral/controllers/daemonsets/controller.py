"""Performs what `plan` and `history` say."""

from collections.abc import Iterable

from corral.client.informer import Informer
from corral.controllers.daemonsets.plan import new_pod, plan
from corral.controllers.pods.batches import slow_start
from corral.controllers.pods.control import PodControl
from corral.controllers.pods.history import HASH_LABEL, history
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index
from corral.controllers.pods.revisions import TAKEN, held, keep
from corral.kinds.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
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
    _control: PodControl
    _nodes: Informer
    _revisions: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._sets, _, self._nodes, self._revisions = map(tools.caches.get, self.reads)
        self._control = PodControl(tools, DAEMON_SETS)
        self._revisions.add_index(CONTROLLER_INDEX, controller_index)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A DaemonSet's own key, a pod's or revision's owner or adopter, and every DaemonSet for a machine."""
        if resource == DAEMON_SETS:
            return [key_of(obj)]
        if resource == NODES:
            return [key_of(found) for found in self._sets.items()]
        return self._control.owners_of(obj)

    async def reconcile(self, key: Key) -> Result:
        """One step towards a pod on each machine."""
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            return Done()
        pods = await self._control.claimed(daemon_set)
        revisions = await held(self._tools.client, daemon_set, self._revisions)
        in_use = frozenset(pod["metadata"]["labels"].get(HASH_LABEL, "") for pod in pods)
        past = history(daemon_set, revisions, in_use)
        if not await keep(self._tools.client, DAEMON_SETS, daemon_set, past):
            return Temporary(TAKEN)
        step = plan(daemon_set, pods, list(self._nodes.items()), past.current, self._tools.clock.now())

        async def create(machine: str) -> None:
            await self._control.create(daemon_set, new_pod(daemon_set, machine, past.current))

        async def delete(pod: Obj) -> None:
            await self._control.delete(daemon_set, pod)

        removed = await slow_start(step.delete, delete)
        made = await slow_start(step.create, create)
        refused = removed.refused or made.refused
        if refused is not None and namespace_ends(refused):
            return Done()
        await write_status(self._tools.client, DAEMON_SETS, daemon_set, step.status)
        if refused is not None:
            return Temporary(refused.message)
        return Done() if step.look_again is None else Requeue(step.look_again)

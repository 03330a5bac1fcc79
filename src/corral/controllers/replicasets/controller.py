"""Performs what `plan` says, and keeps the status."""

from collections import Counter
from collections.abc import Callable, Iterable

from corral.client.informer import Informer
from corral.controllers.pods.batches import Outcome, slow_start
from corral.controllers.pods.control import PodControl
from corral.controllers.pods.pods import (
    CONTROLLER_INDEX,
    controller_index,
    counts_alike,
    is_active,
    is_deleting,
)
from corral.controllers.replicasets.plan import Plan, census, plan, status
from corral.controllers.replicasets.roll import Roll, Rolls, divide, sorted_out
from corral.kinds.owners import controller_of
from corral.kinds.podtemplate import from_template
from corral.kinds.resources import PODS, REPLICA_SETS
from corral.kinds.selectors import LabelSelector
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
    _control: PodControl
    _rolls: Rolls

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._sets = tools.caches.get(REPLICA_SETS)
        self._sets.add_index(CONTROLLER_INDEX, controller_index)
        self._control = PodControl(tools, REPLICA_SETS)
        self._rolls = Rolls(self._control.pods)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A ReplicaSet's own key; a pod's owner, or whoever may adopt it."""
        return [key_of(obj)] if resource == REPLICA_SETS else self._control.owners_of(obj)

    def matters(self, resource: Resource, old: Obj, new: Obj) -> bool:
        """Where a pod is does not: thousands are bound while they are made, and each look counts all of them."""
        return resource != PODS or not counts_alike(old, new)

    async def reconcile(self, key: Key) -> Result:
        """One step towards the number of pods asked for."""
        replica_set = self._sets.get(key)
        if replica_set is None:
            return Done()
        held = await self._held(replica_set)
        now = self._tools.clock.now()
        pods = census(replica_set, held, now)
        step = plan(replica_set, pods, now, crowding=Crowding(lambda: self._crowding(replica_set)))
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

    async def _held(self, replica_set: Obj) -> Roll:
        selector = LabelSelector.from_object(replica_set["spec"].get("selector"))
        held, others = divide(replica_set, selector, self._rolls.of(replica_set["metadata"]["uid"]))
        adopted = await self._control.claimed(replica_set, others)
        if not adopted:
            return held
        # Meanwhile they may stand in the roll, too.
        all_of_them = {key: pod for pods in held.values() for key, pod in pods.items()}
        return sorted_out((all_of_them | {key_of(pod): pod for pod in adopted}).values())

    def _crowding(self, replica_set: Obj) -> Counter[str]:
        """How many pods of the ReplicaSet's owner (all its ReplicaSets) share each machine."""
        owner = controller_of(replica_set)
        uid = owner["uid"] if owner is not None else ""
        sets = self._sets.index(CONTROLLER_INDEX, uid) if uid else [replica_set]
        machines: Counter[str] = Counter()
        for sibling in sets:
            for pod in self._control.pods.index(CONTROLLER_INDEX, sibling["metadata"]["uid"]):
                if is_active(pod):
                    machines[(pod.get("spec") or {}).get("nodeName", "")] += 1
        return machines

    async def _perform(self, replica_set: Obj, step: Plan) -> Outcome:
        pod = from_template(replica_set["spec"]["template"], replica_set)

        async def create(number: int) -> None:
            await self._control.create(replica_set, pod)

        async def delete(pod: Obj) -> None:
            await self._control.delete(replica_set, pod)

        def asks_for_something_else() -> bool:
            now = self._sets.get(key_of(replica_set))
            return now is None or is_deleting(now) or generation_of(now) != generation_of(replica_set)

        if step.create:
            return await slow_start(range(step.create), create, enough=asks_for_something_else)
        return await slow_start(step.delete, delete)


def generation_of(replica_set: Obj) -> int:
    """Which of its specs it has."""
    return int(replica_set["metadata"].get("generation") or 0)


class Crowding:
    """Pods of one owner per machine, as `rank.victims` asks for it; counted when it first asks."""

    def __init__(self, count: Callable[[], Counter[str]]) -> None:
        self._count = count
        self._machines: Counter[str] | None = None

    def __call__(self, pod: Obj) -> int:
        if self._machines is None:
            self._machines = self._count()
        return self._machines[(pod.get("spec") or {}).get("nodeName", "")]

"""Performs what `plan` says: claims before the pod that uses them, one write of the status at the end."""

from collections.abc import Iterable, Sequence

from corral.client.informer import Informer
from corral.controllers.pods.batches import slow_start
from corral.controllers.pods.control import PodControl
from corral.controllers.pods.history import history, template_of
from corral.controllers.pods.pods import CONTROLLER_INDEX, controller_index, is_deleting
from corral.controllers.pods.revisions import TAKEN, held, keep
from corral.controllers.statefulsets.identity import (
    Revision,
    is_of,
    new_claims,
    new_pod,
    ordinal_of,
    ordinals,
    retained_by,
    revision_of,
)
from corral.controllers.statefulsets.plan import plan
from corral.kinds.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.refusals import namespace_ends
from corral.machinery.status import write_status


class StatefulSetController:
    """Keeps the pods of each StatefulSet, each with a name and claims of its own."""

    name = "statefulset-controller"
    reads = (STATEFUL_SETS, PODS, CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS)
    writes = ("pods", "statefulsets/status", "controllerrevisions", "persistentvolumeclaims")

    _tools: Tools
    _sets: Informer
    _control: PodControl
    _revisions: Informer
    _claims: Informer

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._sets, _, self._revisions, self._claims = map(tools.caches.get, self.reads)
        self._control = PodControl(tools, STATEFUL_SETS)
        self._revisions.add_index(CONTROLLER_INDEX, controller_index)

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A set's own key; a pod's or revision's owner or adopter."""
        if resource == STATEFUL_SETS:
            return [key_of(obj)]
        return () if resource == PERSISTENT_VOLUME_CLAIMS else self._control.owners_of(obj)

    async def reconcile(self, key: Key) -> Result:
        """One step towards the pods asked for."""
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            return Done()
        pods = [pod for pod in await self._control.claimed(stateful_set) if is_of(stateful_set, pod)]
        recorded = await self._record(stateful_set, pods)
        if recorded is None:
            return Temporary(TAKEN)
        current, update = recorded
        step = plan(stateful_set, pods, current, update, self._tools.clock.now())
        await self._retain(stateful_set, pods)

        async def create(wanted: tuple[int, Revision]) -> None:
            ordinal, revision = wanted
            await self._claim(stateful_set, ordinal)
            await self._control.create(stateful_set, new_pod(stateful_set, ordinal, revision))

        async def delete(pod: Obj) -> None:
            await self._control.delete(stateful_set, pod)

        removed = await slow_start(step.delete, delete)
        made = await slow_start(step.create, create)
        refused = removed.refused or made.refused
        if refused is not None and namespace_ends(refused):
            return Done()
        await write_status(self._tools.client, STATEFUL_SETS, stateful_set, step.status)
        if refused is not None:
            return Temporary(refused.message)
        return Done() if step.look_again is None else Requeue(step.look_again)

    async def _record(self, stateful_set: Obj, pods: Sequence[Obj]) -> tuple[Revision, Revision] | None:
        """Keep the history; the current revision and the one that the present template is, None if it has no name."""
        metadata = stateful_set["metadata"]
        kept = await held(self._tools.client, stateful_set, self._revisions)
        told = (stateful_set.get("status") or {}).get("currentRevision") or ""
        used = {told, *map(revision_of, pods)}
        past = history(stateful_set, kept, frozenset(name.rpartition("-")[2] for name in used))
        if not is_deleting(stateful_set) and not await keep(self._tools.client, STATEFUL_SETS, stateful_set, past):
            return None
        update = Revision(f"{metadata['name']}-{past.current}", stateful_set["spec"]["template"])
        former = next((found for found in kept if found["metadata"]["name"] == told), None)
        if former is None or told == update.name:
            return update, update
        return Revision(told, template_of(former)), update

    async def _claim(self, stateful_set: Obj, ordinal: int) -> None:
        for claim in new_claims(stateful_set, ordinal):
            if self._claims.get(key_of(claim)) is None:
                await self._tools.client.create(PERSISTENT_VOLUME_CLAIMS, claim)

    async def _retain(self, stateful_set: Obj, pods: Sequence[Obj]) -> None:
        """Let claims be owned as the set's retention policy says, so that they go when their owner does."""
        if not stateful_set["spec"].get("volumeClaimTemplates"):
            return
        wanted = ordinals(stateful_set)
        by_ordinal = {ordinal_of(stateful_set, pod): pod for pod in pods}
        for ordinal in {*wanted, *(found for found in by_ordinal if found is not None)}:
            for template in new_claims(stateful_set, ordinal):
                claim = self._claims.get(key_of(template))
                if claim is None:
                    continue
                owners = retained_by(stateful_set, claim, by_ordinal.get(ordinal), condemned=ordinal not in wanted)
                if owners is not None:
                    version = {
                        "resourceVersion": claim["metadata"]["resourceVersion"],
                        "ownerReferences": owners or None,
                    }
                    name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
                    await self._tools.client.patch(PERSISTENT_VOLUME_CLAIMS, name, {"metadata": version}, namespace)

"""Performs what `plan` says, for one of the two kinds of PodGroup."""

from collections.abc import Iterable
from datetime import datetime

from corral.client.informer import Informer
from corral.controllers.podgroups.plan import plan
from corral.controllers.pods.disruption import disrupt
from corral.kinds.podgroups import gang_of
from corral.kinds.resources import POD_GROUPS, PODS
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.status import write_status


class PodGroupController:
    """Keeps the status of PodGroups, and ends gangs that stay half placed.

    Args:
        groups: the kind of PodGroup.
    """

    _tools: Tools
    _groups: Informer
    _pods: Informer

    def __init__(self, groups: Resource) -> None:
        self.name = "podgroup-controller" if groups == POD_GROUPS else "coscheduling-podgroup-controller"
        self.reads = (groups, PODS)
        self.writes = ("podgroups/status", "pods", "pods/status")
        self._kind = groups
        self._index = f"gang of {groups.group}"
        self._since: dict[Key, tuple[str, datetime]] = {}
        """Since when a group is half placed, with its uid, because a name may come back."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._groups, self._pods = map(tools.caches.get, self.reads)
        self._pods.add_index(self._index, self._names)

    def _names(self, pod: Obj) -> list[str]:
        gang = gang_of(pod)
        ours = gang is not None and gang.api_group == self._kind.group
        return [str(Key(gang.namespace, gang.name))] if gang is not None and ours else []

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """A group's own key; of a pod, that of its group."""
        if resource != PODS:
            return [key_of(obj)]
        gang = gang_of(obj)
        ours = gang is not None and gang.api_group == self._kind.group
        return [Key(gang.namespace, gang.name)] if gang is not None and ours else []

    async def reconcile(self, key: Key) -> Result:
        """One step of the group."""
        group = self._groups.get(key)
        if group is None:
            self._since.pop(key, None)
            return Done()
        uid = group["metadata"]["uid"]
        known, since = self._since.get(key, ("", None))
        now = self._tools.clock.now()
        pods = sorted(self._pods.index(self._index, str(key)), key=lambda pod: str(pod["metadata"]["name"]))
        step = plan(group, pods, since if known == uid else None, now)
        if step.since is not None:
            self._since[key] = uid, step.since
        else:
            self._since.pop(key, None)
        await write_status(self._tools.client, self._kind, group, step.status)
        if step.release:
            self._tools.events.record(group, "Warning", "Timeout", step.message)
        for pod in step.release:
            if await disrupt(self._tools.client, pod, "PodGroupTimeout", f"{key.name}: {step.message}", now):
                self._tools.events.record(pod, "Warning", "PodGroupTimeout", f"pod group {key.name}: {step.message}")
        return Done() if step.look_again is None else Requeue(step.look_again)

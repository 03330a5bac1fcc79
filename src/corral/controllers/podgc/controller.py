"""Clears pods away as `plan` says. Event-driven: a pod is looked at when it, or its machine, changes."""

from collections.abc import Iterable
from datetime import datetime

from corral.client.informer import Informer
from corral.controllers.podgc.plan import TERMINATED_THRESHOLD, Clear, Wait, failed, judge, surplus
from corral.controllers.pods.pods import is_deleting
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.status import write_status

_ENDED = "ended"
_MACHINE = "machine"
_SURPLUS = Key("", "")
"""The key of the question whether there are too many ended pods."""


class PodGarbageCollector:
    """Deletes what is left of vanished machines, pods deleted before they had a machine, and old ended pods.

    Args:
        threshold: how many ended pods are kept.
    """

    name = "pod-garbage-collector"
    reads = (PODS, NODES)
    writes = ("pods", "pods/status")

    _tools: Tools
    _pods: Informer
    _nodes: Informer

    def __init__(self, threshold: int = TERMINATED_THRESHOLD) -> None:
        self._threshold = threshold
        self._missing: dict[str, datetime] = {}

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._pods = tools.caches.get(PODS)
        self._nodes = tools.caches.get(NODES)
        self._pods.add_index(_ENDED, lambda pod: ["yes"] if is_terminal(pod) and not is_deleting(pod) else [])
        self._pods.add_index(_MACHINE, lambda pod: [(pod.get("spec") or {}).get("nodeName") or ""])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Pods that may need clearing; all pods of a machine that has vanished."""
        if resource == NODES:
            name = obj["metadata"]["name"]
            if self._nodes.get(Key("", name)) is not None:
                self._missing.pop(name, None)
                return []
            return [key_of(pod) for pod in self._pods.index(_MACHINE, name)]
        keys = []
        machine = (obj.get("spec") or {}).get("nodeName")
        if (machine and self._nodes.get(Key("", machine)) is None) or (not machine and is_deleting(obj)):
            keys.append(key_of(obj))
        if is_terminal(obj) and self._pods.count(_ENDED, "yes") > self._threshold:
            keys.append(_SURPLUS)
        return keys

    async def reconcile(self, key: Key) -> Result:
        """Clear one pod, or the surplus."""
        if key == _SURPLUS:
            for ended in surplus(self._pods.index(_ENDED, "yes"), self._threshold):
                await self._clear(ended, "")
            return Done()
        pod = self._pods.get(key)
        if pod is None:
            return Done()
        match judge(pod, gone_for=self._gone_for(pod)):
            case Wait(seconds):
                return Requeue(seconds)
            case Clear(why):
                if await self._is_confirmed(pod):
                    await self._clear(pod, why)
        return Done()

    def _gone_for(self, pod: Obj) -> float | None:
        machine = (pod.get("spec") or {}).get("nodeName")
        if not machine or self._nodes.get(Key("", machine)) is not None:
            self._missing.pop(machine or "", None)
            return None
        now = self._tools.clock.now()
        return (now - self._missing.setdefault(machine, now)).total_seconds()

    async def _is_confirmed(self, pod: Obj) -> bool:
        """Ask the API itself before giving up the pods of a machine."""
        machine = (pod.get("spec") or {}).get("nodeName")
        return not machine or await self._tools.client.find(NODES, machine) is None

    async def _clear(self, pod: Obj, why: str) -> None:
        metadata = pod["metadata"]
        try:
            if why:
                await write_status(self._tools.client, PODS, pod, failed(pod, why, self._tools.clock.now()))
            await self._tools.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace=0)
        except StatusError as error:
            if error.code != 404:
                raise

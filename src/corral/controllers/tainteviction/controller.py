"""Ends pods whose time on a tainted machine is over."""

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from corral.base.clock import rfc3339
from corral.client.informer import Informer
from corral.controllers.pods.disruption import disrupt
from corral.controllers.tainteviction.plan import leaves_in
from corral.kinds.resources import NODES, PODS
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools

_MACHINE = "machine"

_Taint: TypeAlias = tuple[str, str, str]


class TaintEvictionController:
    """Deletes pods from machines with NoExecute taints that they do not, or no longer, tolerate."""

    name = "taint-eviction-controller"
    reads = (PODS, NODES)
    writes = ("pods", "pods/status")

    _tools: Tools
    _pods: Informer
    _nodes: Informer
    _seen: dict[str, dict[_Taint, datetime]]
    """By the machine's uid, since when taints are there that do not say so themselves."""

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._seen = {}
        self._pods, self._nodes = map(tools.caches.get, self.reads)
        self._pods.add_index(_MACHINE, lambda pod: [(pod.get("spec") or {}).get("nodeName") or ""])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The pod; the pods of a machine that has such taints."""
        if resource == PODS:
            return [key_of(obj)] if _has_to_ask(self._node_of(obj)) else []
        self._see(obj)
        if not _has_to_ask(obj):
            return []
        return [key_of(pod) for pod in self._pods.index(_MACHINE, obj["metadata"]["name"])]

    def _see(self, node: Obj) -> None:
        before, now = self._seen.pop(node["metadata"]["uid"], {}), self._tools.clock.now()
        unsaid = [_name(taint) for taint in (node.get("spec") or {}).get("taints") or () if not taint.get("timeAdded")]
        if unsaid:
            self._seen[node["metadata"]["uid"]] = {name: before.get(name, now) for name in unsaid}

    def _dated(self, node: Obj, now: datetime) -> Obj:
        """The machine, each of its taints saying since when it is there."""
        seen = self._seen.get(node["metadata"]["uid"], {})
        taints = [
            taint if taint.get("timeAdded") else {**taint, "timeAdded": rfc3339(seen.get(_name(taint), now))}
            for taint in (node.get("spec") or {}).get("taints") or ()
        ]
        return {**node, "spec": {**(node.get("spec") or {}), "taints": taints}}

    def _node_of(self, pod: Obj) -> Obj | None:
        name = (pod.get("spec") or {}).get("nodeName")
        return self._nodes.get(Key("", name)) if name else None

    async def reconcile(self, key: Key) -> Result:
        """Delete the pod if its time is over; else look again when it will be."""
        pod = self._pods.get(key)
        node = self._node_of(pod) if pod is not None else None
        if pod is None or node is None:
            return Done()
        now = self._tools.clock.now()
        wait = leaves_in(pod, self._dated(node, now), now)
        if wait is None:
            return Done()
        if wait > 0:
            return Requeue(wait)
        await self._evict(pod, node["metadata"]["name"], now)
        return Done()

    async def _evict(self, pod: Obj, machine: str, now: datetime) -> None:
        words = "Taint manager: deleting due to NoExecute taint"
        if not await disrupt(self._tools.client, pod, "DeletionByTaintManager", words, now):
            return
        words = f"Marking for deletion Pod {key_of(pod)}: {machine} has a taint that it does not tolerate any longer"
        self._tools.events.record(pod, "Normal", "TaintManagerEviction", words)


def _name(taint: Obj) -> _Taint:
    return taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")


def _has_to_ask(node: Obj | None) -> bool:
    taints = ((node or {}).get("spec") or {}).get("taints") or ()
    return any(taint.get("effect") == "NoExecute" for taint in taints)

"""Watches machines' leases and writes what `plan` says.

All that is decided about one machine is decided here, one step at a time: that its pods are out of the API before the
word `fenced` is taken back is what lets its agent believe the list of pods that it reads then.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from corral.client.api import MERGE_PATCH
from corral.client.informer import Informer
from corral.controllers.nodelifecycle.plan import (
    Sighting,
    bury,
    fenced_in,
    forgiven,
    grace_of,
    holds_back,
    notes,
    sighting,
    silent_in,
    taints,
    unknown_status,
    unready,
    verdict,
)
from corral.controllers.podgc.plan import failed
from corral.controllers.pods.pods import is_deleting
from corral.kinds.health import DEFAULT, FENCED, SILENCE, HealthProfile, annotation
from corral.kinds.podspec import is_terminal
from corral.kinds.resources import LEASES, NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, Resource, key_of
from corral.machinery.api import Done, Requeue, Result, Tools
from corral.machinery.status import write_status

NODE_LEASES = "kube-node-lease"
"""The namespace of machines' leases."""
_MACHINE = "machine"
_LOOK_SECONDS = 1.0
"""How often a silent machine is looked at: others fall silent, so that its pods stay after all, or speak again."""
_COUNT_SECONDS = 0.1
_LATE = 0.25
"""Share of a lease by which a timer is late that must have slept."""


class NodeLifecycleController:
    """Says `Unknown` of machines that fall silent, and keeps the taints that follow from conditions.

    Args:
        profile: how soon a machine is given up.
        sole: whether this is the cell's only server.
        refused: when its store last had no room for a write, in monotonic seconds.
    """

    name = "node-controller"
    reads = (NODES, LEASES, PODS)
    writes = ("nodes", "nodes/status", "leases", "pods", "pods/status")

    _tools: Tools
    _nodes: Informer
    _leases: Informer
    _pods: Informer

    def __init__(
        self, profile: HealthProfile = DEFAULT, *, sole: bool = True, refused: Callable[[], float] = lambda: -math.inf
    ) -> None:
        self._profile = profile
        self._sole = sole
        self._refused = refused
        self._seen: dict[str, Sighting] = {}
        self._held: set[str] = set()
        self._due: dict[str, float] = {}
        self._woke = -math.inf
        self._counted = (-_COUNT_SECONDS, 0)

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._nodes, self._leases, self._pods = map(tools.caches.get, self.reads)
        self._pods.add_index(_MACHINE, lambda pod: [(pod.get("spec") or {}).get("nodeName") or ""])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """The machine."""
        if resource == NODES:
            return [key_of(obj)]
        metadata = obj["metadata"]
        if resource == LEASES:
            return [Key("", metadata["name"])] if metadata["namespace"] == NODE_LEASES else []
        machine = str((obj.get("spec") or {}).get("nodeName") or "") if is_deleting(obj) else ""
        fenced = machine and annotation(self._lease(machine), SILENCE) == FENCED
        return [Key("", machine)] if fenced else []

    def _lease(self, machine: str) -> Obj | None:
        return self._leases.get(Key(NODE_LEASES, machine))

    async def reconcile(self, key: Key) -> Result:
        """Bring conditions, taints and the lease's notes in line with the machine's signs of life."""
        node = self._nodes.get(key)
        if node is None:
            self._seen.pop(key.name, None)
            self._due.pop(key.name, None)
            self._held.discard(key.name)
            return Done()
        lease, now = self._lease(key.name), self._tools.clock.monotonic()
        self._wake(key.name, grace_of(lease), now)
        seen = forgiven(sighting(node, lease, self._seen.get(key.name), now), self._refused())
        self._seen[key.name] = seen
        left = silent_in(seen, grace_of(lease), now)
        held = left <= 0 and self._holds_back(node, now)
        said = verdict(seen, node, lease, now, held=held)
        if lease is not None:
            # First, because it fails if the machine was heard while we were not listening.
            await self._note(lease, said)
        if left <= 0:
            node = await self._say_unknown(node)
        if left <= 0 and not held:
            for pod, status in unready(self._pods.index(_MACHINE, key.name), self._tools.clock.now()):
                await write_status(self._tools.client, PODS, pod, status)
        await self._set_taints(node, held=held or left > 0)
        if said == FENCED:
            await self._bury(key.name)
        after = left if left > 0 else self._next_look(seen, lease, now)
        self._due[key.name] = now + after
        return Requeue(after)

    def _wake(self, name: str, grace: float, now: float) -> None:
        """Who slept has not heard anybody: when a timer of ours is late, everybody gets the whole time again.

        Not again and again: a server that is always late must find dead machines, too.
        """
        late = now - self._due.get(name, now)
        if late > grace * _LATE and now - self._woke > 2 * grace:
            self._woke = now
            self._seen = {name: replace(seen, at=now) for name, seen in self._seen.items()}

    def _next_look(self, seen: Sighting, lease: Obj | None, now: float) -> float:
        fenced = fenced_in(seen, lease, now)
        return fenced if fenced is not None and 0 < fenced < _LOOK_SECONDS else _LOOK_SECONDS

    def _silent(self, now: float) -> int:
        """How many machines are silent, as of a moment ago: when all are, each of them asks."""
        at, silent = self._counted
        if not at <= now < at + _COUNT_SECONDS:
            silent = sum(silent_in(seen, grace_of(self._lease(name)), now) <= 0 for name, seen in self._seen.items())
            self._counted = (now, silent)
        return silent

    def _holds_back(self, node: Obj, now: float) -> bool:
        silent = self._silent(now)
        name, machines = node["metadata"]["name"], len(self._nodes)
        held = holds_back(silent, machines, self._profile.most_silent)
        if held and name not in self._held and machines > 1:
            words = f"{silent} of {machines} machines are silent at once: pods of {name} stay until fewer are"
            self._tools.events.record(node, "Warning", "EvictionHeldBack", words)
        (self._held.add if held else self._held.discard)(name)
        return held

    async def _say_unknown(self, node: Obj) -> Obj:
        status = unknown_status(node, self._tools.clock.now())
        if status is None:
            return node
        node = await write_status(self._tools.client, NODES, node, status)
        words = f"Node {node['metadata']['name']} status is now: NodeNotReady"
        self._tools.events.record(node, "Normal", "NodeNotReady", words)
        return node

    async def _set_taints(self, node: Obj, *, held: bool) -> None:
        wanted = taints(node, self._tools.clock.now(), held=held)
        if wanted is not None:
            patch: Obj = {
                "metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
                "spec": {"taints": wanted or None},
            }
            await self._tools.client.patch(NODES, node["metadata"]["name"], patch)

    async def _note(self, lease: Obj, silence: str) -> None:
        """Write terms and verdict, if the lease is still the very one that we judged: a renewal wins."""
        terms = self._profile.terms(len(self._nodes), sole=self._sole)
        changes = notes(lease, terms, silence)
        if changes is not None:
            metadata = lease["metadata"]
            patch: Obj = {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": changes}}
            await self._tools.client.patch(LEASES, metadata["name"], patch, metadata["namespace"], MERGE_PATCH)

    async def _bury(self, machine: str) -> None:
        """Take the deleted pods of a fenced machine out of the API, so that their successors may start."""
        pods = bury(self._pods.index(_MACHINE, machine))
        if pods and annotation(await self._tools.client.get(LEASES, machine, NODE_LEASES), SILENCE) != FENCED:
            return  # our copy is old: it was taken back
        for pod in pods:
            metadata = pod["metadata"]
            try:
                if not is_terminal(pod):
                    words = f"the machine {machine} is silent and has fenced itself"
                    await write_status(self._tools.client, PODS, pod, failed(pod, words, self._tools.clock.now()))
                await self._tools.client.delete(
                    PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"], grace=0
                )
            except StatusError as error:
                if error.code != 404:
                    raise

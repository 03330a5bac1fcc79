"""The shell around `plan`: one look at all machines, then the writes.

There is one key, as machines are weighed against each other. Statuses are written before pods are asked to leave and
before machines are tainted: whatever is done follows from what stands in the API, so that a server that ends in the
middle, or its successor, goes on from there.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Sequence, Set
from dataclasses import replace
from datetime import datetime

import msgspec

from corral.client.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from corral.client.informer import Informer
from corral.fleet.plan import Decisions, Machine, Opening, World, plan, read_machine, stages
from corral.fleet.rules import BadPolicy, Policy, default_policy, read_policy
from corral.kinds import conditions
from corral.kinds.owners import CONTROLLER_INDEX, controller_index, controller_of
from corral.kinds.repairs import (
    POLICY,
    QUARANTINE_TAINT,
    QUARANTINED,
    REPAIR_POLICIES,
    REPAIR_TAINT,
    REPAIRS,
    Repair,
    RepairStatus,
    read,
    written,
)
from corral.kinds.resources import NODES, PERSISTENT_VOLUMES, PODS
from corral.kinds.status import StatusError
from corral.kinds.storage import machine_of, read_reference
from corral.kinds.taints import read_taints
from corral.kinds.types import Key, Obj, Resource
from corral.machinery.api import Done, Requeue, Result, Temporary, Tools
from corral.machinery.status import write_status

_ALL = Key("", "fleet")
_MACHINE = "machine"
_TOO_MANY = 429


class RepairController:
    """Opens Repairs, leads them through their lives, and keeps the taints that follow from them."""

    name = "repair-controller"
    reads = (REPAIRS, REPAIR_POLICIES, NODES, PODS, PERSISTENT_VOLUMES)
    writes = (
        "repairs.corral.dev",
        "repairs.corral.dev/status",
        "repairpolicies.corral.dev/status",
        "nodes",
        "nodes/status",
        "pods/eviction",
    )

    _tools: Tools
    _repairs: Informer
    _policies: Informer
    _nodes: Informer
    _pods: Informer
    _volumes: Informer

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, float]] = {}
        self._machines: set[str] = set()
        self._owners: set[str] = set()
        self._policy = default_policy()
        self._version = ""
        self._known: dict[str, Machine] = {}
        self._known_by: Policy | None = None
        self._views: dict[str, Repair] = {}

    def start(self, tools: Tools) -> None:
        """Take the tools."""
        self._tools = tools
        self._repairs, self._policies, self._nodes, self._pods, self._volumes = map(tools.caches.get, self.reads)
        self._pods.add_index(_MACHINE, lambda pod: [(pod.get("spec") or {}).get("nodeName") or ""])
        self._pods.add_index(CONTROLLER_INDEX, controller_index)
        self._volumes.add_index(_MACHINE, lambda volume: [machine_of(volume)])

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Everything concerns everything; but what happens to machines that are well, and to their pods, nobody."""
        if resource == PODS:
            if not self._machines:
                return ()
            near = (obj.get("spec") or {}).get("nodeName") in self._machines
            return [_ALL] if near or (controller_of(obj) or {}).get("uid") in self._owners else []
        if resource == NODES:
            ours = any(taint.key in (REPAIR_TAINT, QUARANTINE_TAINT) for taint in read_taints(obj))
            known = obj["metadata"]["name"] in self._machines or conditions.is_true(obj, QUARANTINED)
            return [_ALL] if ours or known or self._policy.rule_of(obj) is not None else []
        return [] if resource == PERSISTENT_VOLUMES else [_ALL]

    async def reconcile(self, key: Key) -> Result:
        """One look at all machines."""
        now = self._tools.clock.now()
        policy = await self._read_policy(now)
        world = self._world(policy)
        decisions = plan(world, policy, now)
        self._follow(world, decisions)
        lost = await self._perform(decisions, now)
        if lost:
            return Temporary("somebody else wrote meanwhile")
        return Done() if decisions.look_again is None else Requeue(decisions.look_again)

    # What there is.

    def _world(self, policy: Policy) -> World:
        world = World(
            self._read_machines(policy),
            self._read_repairs(),
            lambda machine: self._pods.index(_MACHINE, machine),
            lambda uid: self._pods.index(CONTROLLER_INDEX, uid),
            self._pinned,
        )
        return replace(world, seconds=self._seconds(stages(world)))

    def _read_machines(self, policy: Policy) -> dict[str, Machine]:
        """All machines; those that have not changed since the last look are not read again."""
        known, choice = self._known if self._known_by is policy else {}, policy.choice
        self._known_by, self._known = policy, {}
        for node in self._nodes.items():
            key = node["metadata"]["name"]
            before = known.get(key)
            if before is None or before.node is not node:
                before = read_machine(node, policy, choice)
            self._known[key] = before
        return self._known

    def _read_repairs(self) -> list[Repair]:
        """All repairs; those that have not changed since the last look are not read again."""
        before, self._views = self._views, {}
        for obj in self._repairs.items():
            key = obj["metadata"]["name"]
            view = before.get(key)
            if view is None or view.obj is not obj:
                view = _readable(obj)
            if view is not None:
                self._views[key] = view
        return list(self._views.values())

    def _seconds(self, timed: dict[str, str]) -> dict[str, float]:
        """For how long each has been in its stage, as far as we have watched it."""
        now, before = self._tools.clock.monotonic(), self._since
        self._since = {
            key: seen if (seen := before.get(key)) is not None and seen[0] == text else (text, now)
            for key, text in timed.items()
        }
        return {key: now - began for key, (_, began) in self._since.items()}

    def _pinned(self, machine: str) -> Set[Key]:
        volumes = self._volumes.index(_MACHINE, machine)
        return {read_reference(one["spec"]["claimRef"]).key for one in volumes if one["spec"].get("claimRef")}

    def _follow(self, world: World, decisions: Decisions) -> None:
        """Remember whose events matter until the next look."""
        statuses = {repair.name: status for repair, status in decisions.statuses}
        active = [repair for repair in world.repairs if not repair.is_final]
        self._machines = {repair.machine for repair in active} | {
            opening.node["metadata"]["name"] for opening in decisions.open
        }
        moves = [move for repair in active for move in statuses.get(repair.name, repair.status).moved]
        moves += [move for opening in decisions.open for move in opening.status.moved]
        self._owners = {move.owner_uid for move in moves if move.owner_uid and not move.to_machine}

    async def _read_policy(self, now: datetime) -> Policy:
        """The cell's own rules, or Corral's if there are none, or none that can be followed."""
        obj = self._policies.get(Key("", POLICY))
        version = obj["metadata"]["resourceVersion"] if obj is not None else ""
        if version != self._version:
            problem = ""
            try:
                self._policy = read_policy(obj) if obj is not None else default_policy()
            except BadPolicy as error:
                self._policy, problem = default_policy(), f"{error}; Corral's own rules count instead"
            if obj is not None:
                await self._judge(obj, problem, now)
            self._version = version
        return self._policy

    async def _judge(self, obj: Obj, problem: str, now: datetime) -> None:
        made: Obj = {"status": {"conditions": [dict(one) for one in (obj.get("status") or {}).get("conditions") or ()]}}
        conditions.set_condition(
            made,
            "Accepted",
            "False" if problem else "True",
            now=now,
            reason="Invalid" if problem else "Valid",
            message=problem or "it is followed",
            observedGeneration=obj["metadata"].get("generation"),
        )
        if made["status"] != obj.get("status"):
            await self._tools.client.update(REPAIR_POLICIES, {**obj, "status": made["status"]}, "status")
            if problem:
                self._tools.events.record(obj, "Warning", "InvalidPolicy", problem)

    # What is done.

    async def _perform(self, decisions: Decisions, now: datetime) -> int:
        """Do what was decided; returns how many writes met an object that had changed."""
        statuses = [self._write(repair, status) for repair, status in decisions.statuses]
        lost = await self._all([*map(self._open, decisions.open), *statuses])
        if lost:
            return lost
        nodes = [self._taint(node, taints) for node, taints in decisions.taints]
        nodes += [self._say_quarantined(node, given_up, now) for node, given_up in decisions.quarantined]
        lost = await self._all([*nodes, *map(self._forget, decisions.forget)])
        await self._all(list(map(self._evict, decisions.evict)))
        return lost

    async def _all(self, writes: Sequence[Awaitable[object]]) -> int:
        lost = 0
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, StatusError) and result.code in (404, 409):
                lost += result.code == 409
            elif isinstance(result, BaseException):
                raise result
        return lost

    async def _open(self, opening: Opening) -> None:
        metadata = opening.node["metadata"]
        repair: Obj = {
            "apiVersion": REPAIRS.api_version,
            "kind": REPAIRS.kind,
            "metadata": {"name": f"{metadata['name'][:240]}-{secrets.token_hex(3)}"},
            "spec": {"nodeName": metadata["name"], "nodeUID": metadata["uid"]},
        }
        made = await self._tools.client.create(REPAIRS, repair)
        await write_status(self._tools.client, REPAIRS, made, written(opening.status))
        self._tools.events.record(opening.node, "Warning", "RepairOpened", f"{made['metadata']['name']}: trouble seen")

    async def _write(self, repair: Repair, status: RepairStatus) -> None:
        await write_status(self._tools.client, REPAIRS, repair.obj, written(status))
        if status.phase != repair.status.phase:
            kind = "Warning" if status.phase == "Retired" else "Normal"
            self._tools.events.record(repair.obj, kind, f"Repair{status.phase}", status.message)
        new = status.attempts[len(repair.status.attempts) :]
        for attempt in new:
            self._tools.events.record(repair.obj, "Normal", "RepairAttempt", f"{attempt.remedy}: {attempt.state}")

    async def _taint(self, node: Obj, taints: list[Obj]) -> None:
        metadata = node["metadata"]
        patch: Obj = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"taints": taints or None}}
        await self._tools.client.patch(NODES, metadata["name"], patch, kind=MERGE_PATCH)

    async def _say_quarantined(self, node: Obj, given_up: bool, now: datetime) -> None:
        made: Obj = {"status": {"conditions": [dict(one) for one in (conditions.get(node, QUARANTINED),) if one]}}
        words = "trouble came again and again: corral repair ls" if given_up else "a person has let it back"
        reason = "RepeatedTrouble" if given_up else "Approved"
        conditions.set_condition(
            made, QUARANTINED, "True" if given_up else "False", now=now, reason=reason, message=words
        )
        patch = {"status": made["status"]}
        await self._tools.client.patch(
            NODES, node["metadata"]["name"], patch, kind=STRATEGIC_MERGE_PATCH, subresource="status"
        )

    async def _forget(self, repair: Repair) -> None:
        await self._tools.client.delete(REPAIRS, repair.name)

    async def _evict(self, pod: Obj) -> None:
        """Ask a pod to leave, as its budget allows: a refusal is asked again later."""
        metadata = pod["metadata"]
        eviction: Obj = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
        }
        try:
            await self._tools.client.create_subresource(
                PODS, metadata["name"], metadata["namespace"], "eviction", eviction
            )
        except StatusError as error:
            if error.code not in (404, 409, _TOO_MANY):
                raise


def _readable(obj: Obj) -> Repair | None:
    """The repair; None if it was just made, or if somebody wrote nonsense into it."""
    try:
        return read(obj)
    except msgspec.ValidationError:
        return None

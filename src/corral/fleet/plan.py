"""What to do about the machines of a cell: f(world, policy, now) -> decisions. Pure.

All machines are weighed against each other, because never more than a share of them may be out of service at once, and
because many that fall silent together are the network, which no repair mends. A machine takes no new pods by a taint of
our own, which follows from its Repair; `spec.unschedulable`, a person's, is neither read nor written.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

import msgspec

from corral.base.clock import parse_rfc3339, rfc3339
from corral.fleet.life import BY_A_PERSON, Case, Step, stage, step
from corral.fleet.moves import Whereabouts, followed, found, leaving
from corral.fleet.rules import Policy, Rule
from corral.kinds import conditions
from corral.kinds.repairs import (
    IN_REPAIR,
    QUARANTINE_TAINT,
    QUARANTINED,
    REPAIR_TAINT,
    Repair,
    RepairStatus,
    Seen,
    Transition,
)
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj

SUSPICION_SECONDS: Final = 2.0
"""For how long a condition must be bad before there is a Repair: longer than a hiccup, shorter than pods stay on a
silent machine, so that what runs there can still be written down."""
_FORGOTTEN: Final = timedelta(days=30)
"""So long the ended repairs of a machine are kept that is no longer in the cell."""
_MOST_ENDED: Final = 1000
"""Of all machines together."""
_SICK: Final = "sick"


@dataclass(frozen=True, slots=True)
class Machine:
    """What matters of a Node, read once for each of its versions: most of thousands are as they were."""

    node: Obj
    name: str
    uid: str
    rule: Rule | None
    """The rule that matches it, if the policy is about it."""
    silent: bool
    takes_pods: bool
    cordoned: bool
    """By a person: Corral never does that."""
    marked: bool
    """It has a taint or a condition of ours."""


@dataclass(frozen=True, slots=True)
class World:
    """All that decisions go by. `seconds` says for how long something has been in its stage (see `stages`)."""

    machines: Mapping[str, Machine]
    repairs: Sequence[Repair]
    pods: Callable[[str], Sequence[Obj]]
    """By machine."""
    managed: Callable[[str], Sequence[Obj]]
    """Pods by the uid of their controller."""
    pinned: Callable[[str], Set[Key]]
    """Claims whose data is on a machine."""
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opening:
    """A repair to begin."""

    node: Obj
    status: RepairStatus


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is to be written, and what is to be asked of pods."""

    open: list[Opening] = field(default_factory=list)
    statuses: list[tuple[Repair, RepairStatus]] = field(default_factory=list)
    taints: list[tuple[Obj, list[Obj]]] = field(default_factory=list)
    """Machines and all of their taints from now on."""
    quarantined: list[tuple[Obj, bool]] = field(default_factory=list)
    """Machines whose condition does not say that they are, or are not."""
    evict: list[Obj] = field(default_factory=list)
    forget: list[Repair] = field(default_factory=list)
    look_again: float | None = None


def stages(world: World) -> dict[str, str]:
    """What the shell must time: names, and texts that change when the time begins anew."""
    timed = {repair.name: stage(repair.status) for repair in world.repairs if not repair.is_final}
    timed |= {f"/{machine.name}": _SICK for machine in world.machines.values() if machine.rule is not None}
    return timed


def plan(world: World, policy: Policy, now: datetime) -> Decisions:
    """One look at all machines."""
    made = _Plan(world, policy, now)
    if policy.enabled:
        made.step_all()
        made.open_all()
    made.taint_all()
    made.forget_old()
    return made.decisions()


class _Plan:
    """One look, taken apart; lives as long as a call of `plan`."""

    def __init__(self, world: World, policy: Policy, now: datetime) -> None:
        self._world = world
        self._policy = policy
        self._now = now
        self._stamp = rfc3339(now)
        self._machines = world.machines
        live = [repair for repair in world.repairs if not repair.deleting]
        self._by_machine = {
            machine: sorted(group, key=lambda one: (one.created, one.name))
            for machine, group in groupby(sorted(live, key=lambda one: one.machine), key=lambda one: one.machine)
        }
        self._quarantined = {
            machine: last
            for machine, repairs in self._by_machine.items()
            if (last := _quarantine(repairs)) is not None and self._is_of(last, machine)
        }
        self._active = [repair for repair in live if not repair.is_final]
        self._phases = {repair.name: repair.status for repair in live}
        self._most = policy.most(len(self._machines))
        self._silent = {machine.name for machine in self._machines.values() if machine.silent}
        out = {one.machine for one in self._active if one.status.phase in IN_REPAIR} | self._quarantined.keys()
        self._out = out & self._machines.keys()
        """Machines out of service by our own doing."""
        self._hosts = {machine.name for machine in self._machines.values() if machine.takes_pods} - self._out
        self._made = Decisions()
        self._waits: list[float] = []

    def decisions(self) -> Decisions:
        """What was found."""
        return replace(self._made, look_again=min(self._waits, default=None))

    @property
    def _is_split(self) -> bool:
        """Whether so many machines are silent at once that it is the network, or we."""
        return len(self._silent) > self._most

    def _is_of(self, repair: Repair, machine: str) -> bool:
        found_ = self._machines.get(machine)
        return found_ is not None and found_.uid == repair.machine_uid

    # Repairs under way.

    def step_all(self) -> None:
        """The next step of each, the most urgent first: there may not be room for all."""
        order = {rule.name: index for index, rule in enumerate(self._policy.rules)}
        urgency = {repair.name: order.get(repair.status.rule, len(order)) for repair in self._active}
        for repair in sorted(self._active, key=lambda one: (urgency[one.name], one.created, one.name)):
            made = step(self._case(repair), self._policy, self._stamp)
            made = self._followed(repair, made)
            self._phases[repair.name] = made.status
            if made.status.phase in IN_REPAIR and repair.machine in self._machines:
                self._out.add(repair.machine)
                self._hosts.discard(repair.machine)
            if made.status != repair.status:
                self._made.statuses.append((repair, made.status))
            self._made.evict.extend(made.evict)
            if made.look_again is not None:
                self._waits.append(made.look_again)

    def _case(self, repair: Repair) -> Case:
        machine = self._machines[repair.machine] if self._is_of(repair, repair.machine) else None
        silent = repair.machine in self._silent
        pods = self._world.pods(repair.machine)
        return Case(
            repair,
            machine is not None,
            machine.rule if machine is not None else None,
            seen(machine.node, self._policy) if machine is not None else (),
            silent,
            self._world.seconds.get(repair.name, 0.0),
            leaving(pods, self._world.pinned(repair.machine), silent=silent),
            self._held(repair, silent=silent),
            len(self._hosts) > (repair.machine in self._hosts),
            self._earlier(repair),
        )

    def _held(self, repair: Repair, *, silent: bool) -> str:
        """Why this one must wait."""
        machines, machine = len(self._machines), self._machines.get(repair.machine)
        if machine is not None and machine.cordoned:
            return BY_A_PERSON
        if silent and self._is_split:
            return (
                f"{len(self._silent)} of {machines} machines are silent at once: that is taken for the network, "
                f"and none of them is repaired (at most {self._most} are)"
            )
        if repair.status.phase == "Suspect" and len(self._out) >= self._most:
            return f"it waits: {len(self._out)} of {machines} machines are in repair or quarantine, and no more may be"
        return ""

    def _earlier(self, repair: Repair) -> int:
        """Repairs of this machine, since it was last in quarantine, that got further than a suspicion."""
        count, since = 0, self._now - timedelta(seconds=self._policy.quarantine.window_seconds)
        for one in reversed(self._by_machine.get(repair.machine, ())):
            if one.name == repair.name or not one.is_final:
                continue
            if one.status.quarantine:
                break
            count += _began(one) and parse_rfc3339(one.created) >= since
        return count

    def _followed(self, repair: Repair, made: Step) -> Step:
        where = Whereabouts(repair.machine, repair.created, self._world.pods(repair.machine), self._world.managed)
        moves = followed(made.status.moved, where, self._stamp)
        return Step(msgspec.structs.replace(made.status, moved=moves), made.evict, made.look_again)

    # New ones.

    def open_all(self) -> None:
        """A repair for each machine in trouble that has none."""
        busy = {repair.machine for repair in self._active} | self._quarantined.keys()
        for machine in self._machines.values():
            key, rule = machine.name, machine.rule
            if rule is None or key in busy or (machine.silent and self._is_split and busy & self._silent):
                continue  # one of them tells the story of a split
            left = min(SUSPICION_SECONDS, rule.timeout_seconds) - self._world.seconds.get(f"/{key}", 0.0)
            if left > 0:
                self._waits.append(left)
                continue
            message = f"{rule.condition} is {rule.status}"
            status = RepairStatus(
                rule=rule.name,
                message=message,
                seen=seen(machine.node, self._policy),
                moved=found(self._world.pods(key)),
                transitions=(Transition("Suspect", self._stamp, message),),
            )
            self._made.open.append(Opening(machine.node, status))
            busy.add(key)

    # What follows from repairs.

    def taint_all(self) -> None:
        """Taints and conditions that machines lack, or have without reason."""
        repaired = {
            one.machine: one
            for one in self._active
            if self._phases[one.name].phase in IN_REPAIR and self._is_of(one, one.machine)
        }
        given_up = {one.machine: one for one in self._active if _is_quarantine(self._phases[one.name])}
        given_up = {**self._quarantined, **given_up}
        marked = {machine.name for machine in self._machines.values() if machine.marked}
        # Pods of a cell of one machine have nowhere else to go.
        alone = len(self._machines) == 1
        for key in sorted((repaired.keys() | given_up.keys() | marked) & self._machines.keys()):
            node, wanted = self._machines[key].node, dict[str, str]()
            if key in repaired and not alone:
                wanted[REPAIR_TAINT] = repaired[key].name
            if key in given_up and not alone:
                wanted[QUARANTINE_TAINT] = given_up[key].name
            taints = _taints(node, wanted)
            if taints is not None:
                self._made.taints.append((node, taints))
            if conditions.is_true(node, QUARANTINED) != (key in given_up):
                self._made.quarantined.append((node, key in given_up))

    def forget_old(self) -> None:
        """Ended repairs beyond the newest few of each machine, but for one that holds its machine in quarantine."""
        kept: list[Repair] = []
        for machine, repairs in self._by_machine.items():
            ended = [one for one in repairs if one.is_final and self._quarantined.get(machine) is not one]
            # What recovered by itself goes first: the others count towards quarantine.
            ended.sort(key=lambda one: (_began(one), one.created))
            most = self._policy.history_limit
            if machine not in self._machines:
                ended.sort(key=lambda one: one.created)
                most = sum(parse_rfc3339(one.created) >= self._now - _FORGOTTEN for one in ended)
            old = max(0, len(ended) - most)
            self._made.forget.extend(ended[:old])
            kept.extend(ended[old:])
        kept.sort(key=lambda one: one.created)
        self._made.forget.extend(kept[: max(0, len(kept) - _MOST_ENDED)])


def read_machine(node: Obj, policy: Policy, choice: LabelSelector) -> Machine:
    """The view of a Node; `choice` is the policy's."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    ready = (conditions.get(node, "Ready") or {}).get("status")
    cordoned = bool(spec.get("unschedulable"))
    ours = any(taint.get("key") in (REPAIR_TAINT, QUARANTINE_TAINT) for taint in spec.get("taints") or ())
    return Machine(
        node,
        metadata["name"],
        str(metadata.get("uid") or ""),
        policy.rule_of(node) if choice.matches(metadata.get("labels")) else None,
        ready == "Unknown",
        ready == "True" and not cordoned,
        cordoned,
        ours or conditions.is_true(node, QUARANTINED),
    )


def seen(node: Obj, policy: Policy) -> tuple[Seen, ...]:
    """What a machine says of its trouble."""
    return tuple(
        Seen(
            str(one["type"]),
            str(one["status"]),
            str(one.get("reason") or ""),
            str(one.get("message") or "")[:1024],
            str(one.get("lastTransitionTime") or ""),
        )
        for one in policy.seen(node)
    )


def _began(repair: Repair) -> bool:
    """Whether it got further than a suspicion."""
    return any(step_.phase in IN_REPAIR for step_ in repair.status.transitions)


def _is_quarantine(status: RepairStatus) -> bool:
    return status.phase == "Retired" and status.quarantine


def _quarantine(repairs: Sequence[Repair]) -> Repair | None:
    """The repair that holds the machine in quarantine: the last that ended there, until a person lets it back."""
    last = next((one for one in reversed(repairs) if _is_quarantine(one.status)), None)
    return last if last is not None and not last.released else None


def _taints(node: Obj, wanted: Mapping[str, str]) -> list[Obj] | None:
    """All taints of a machine with ours as wanted; None if they are so."""
    present = (node.get("spec") or {}).get("taints") or []
    others = [taint for taint in present if taint.get("key") not in (REPAIR_TAINT, QUARANTINE_TAINT)]
    ours: list[Obj] = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in wanted.items()]
    have = {(one.get("key"), one.get("value", ""), one.get("effect")) for one in present} - {
        (one.get("key"), one.get("value", ""), one.get("effect")) for one in others
    }
    return None if have == {(key, value, "NoSchedule") for key, value in wanted.items()} else [*others, *ours]

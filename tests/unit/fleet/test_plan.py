"""What must hold of repairs whatever happens: a cell of a few machines, random troubles, answers and people."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.fleet.life import stage
from corral.fleet.plan import Decisions, World, plan, read_machine, stages
from corral.fleet.rules import PlannedRemedy, Policy, Quarantine, Rule
from corral.kinds.repairs import (
    IN_REPAIR,
    MOVES,
    QUARANTINE_TAINT,
    REPAIR_TAINT,
    Answer,
    Phase,
    Repair,
    RepairStatus,
)
from corral.kinds.types import Obj

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(
    rules=(
        Rule("unreachable", "Ready", "Unknown", 5, drain=True, remedies=(PlannedRemedy("Remote"),)),
        Rule(
            "disk",
            "DiskErrors",
            "True",
            3,
            drain=True,
            remedies=(PlannedRemedy("RestartAgent"), PlannedRemedy("Reboot")),
        ),
        Rule("full", "DiskPressure", "True", 0, remedies=(PlannedRemedy("Prune"),)),
        Rule("clock", "ClockSkewed", "True", 0),
    ),
    probation_seconds=10,
    drain_timeout_seconds=20,
    approvals=frozenset(("Reboot",)),
    quarantine=Quarantine(2, 86400),
    history_limit=3,
)


def node(name: str, **said: str) -> Obj:
    listed = [{"type": type_, "status": status} for type_, status in {"Ready": "True", **said}.items()]
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {}, "status": {"conditions": listed}}


def pod(name: str, machine: str, owner: str = "ReplicaSet") -> Obj:
    reference = {"kind": owner, "name": "web", "uid": "rs", "controller": True}
    metadata = {"name": name, "namespace": "d", "uid": name, "ownerReferences": [reference] if owner else []}
    return {"metadata": metadata, "spec": {"nodeName": machine}, "status": {"phase": "Running"}}


@dataclass
class Cell:
    """The shell in memory: it does what is decided, and measures time as the shell does."""

    policy: Policy = POLICY
    nodes: dict[str, Obj] = field(default_factory=dict)
    pods: dict[str, Obj] = field(default_factory=dict)
    repairs: dict[str, Repair] = field(default_factory=dict)
    lives: dict[str, list[Phase]] = field(default_factory=dict)
    now: datetime = START
    since: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)
    budget: bool = False
    """Whether a budget refuses all evictions."""

    def look(self) -> Decisions:
        world = World(
            {name: read_machine(one, self.policy, self.policy.choice) for name, one in self.nodes.items()},
            list(self.repairs.values()),
            lambda machine: [one for one in self.pods.values() if one["spec"]["nodeName"] == machine],
            lambda uid: [one for one in self.pods.values() if uid == "rs"],
            lambda machine: frozenset(),
        )
        timed = stages(world)
        self.since = {
            key: before if (before := self.since.get(key, ("", self.now)))[0] == text else (text, self.now)
            for key, text in timed.items()
        }
        seconds = {key: (self.now - began).total_seconds() for key, (_, began) in self.since.items()}
        decisions = plan(replace(world, seconds=seconds), self.policy, self.now)
        self._do(decisions)
        return decisions

    def _do(self, decisions: Decisions) -> None:
        for opening in decisions.open:
            machine = opening.node["metadata"]["name"]
            name = f"{machine}-{len(self.lives)}"
            uid = opening.node["metadata"]["uid"]
            created = rfc3339(self.now)
            self.repairs[name] = Repair(name, machine, uid, False, False, created, False, opening.status, {})
            self.lives[name] = [opening.status.phase]
        for repair, status in decisions.statuses:
            self.repairs[repair.name] = msgspec.structs.replace(repair, status=status)
            if status.phase != repair.status.phase:
                self.lives[repair.name].append(status.phase)
        for machine, taints in decisions.taints:
            machine["spec"]["taints"] = taints
        for machine, given_up in decisions.quarantined:
            self.say(machine["metadata"]["name"], "Quarantined", str(given_up))
        for repair in decisions.forget:
            del self.repairs[repair.name]
        for one in decisions.evict:
            self.evicted.append(one["metadata"]["name"])
            if not self.budget:
                del self.pods[one["metadata"]["name"]]

    def settle(self) -> None:
        """Look until nothing is left to do, as events would have it."""
        for _ in range(50):
            decisions = self.look()
            if not (decisions.open or decisions.statuses or decisions.taints or decisions.quarantined):
                return
        raise AssertionError("decisions do not come to rest")

    def wait(self, seconds: float) -> None:
        self.settle()
        self.now += timedelta(seconds=seconds)
        self.settle()

    def say(self, machine: str, type_: str, status: str) -> None:
        conditions = self.nodes[machine]["status"]["conditions"]
        kept = [one for one in conditions if one["type"] != type_]
        self.nodes[machine]["status"]["conditions"] = [*kept, {"type": type_, "status": status}]

    def answer(self, machine: str, state: Any) -> None:
        for name, repair in self.repairs.items():
            attempts = repair.status.attempts
            if repair.machine == machine and attempts and attempts[-1].state == "Requested":
                said = Answer(len(attempts) - 1, state, rfc3339(self.now))
                self.repairs[name] = msgspec.structs.replace(
                    repair, status=msgspec.structs.replace(repair.status, answer=said)
                )

    def only(self, machine: str = "m0") -> RepairStatus:
        (found,) = [one.status for one in self.repairs.values() if one.machine == machine and not one.is_final]
        return found

    def taints(self, machine: str) -> set[str]:
        return {taint["key"] for taint in self.nodes[machine]["spec"].get("taints") or ()}


def cell(machines: int, **policy: Any) -> Cell:
    made = Cell(msgspec.structs.replace(POLICY, **policy))
    made.nodes = {f"m{index}": node(f"m{index}") for index in range(machines)}
    return made


EVENTS = st.one_of(
    st.tuples(
        st.just("say"),
        st.integers(0, 4),
        st.sampled_from((("Ready", "Unknown"), ("Ready", "True"), ("Ready", "False"))),
    ),
    st.tuples(
        st.just("say"),
        st.integers(0, 4),
        st.tuples(st.sampled_from(("DiskErrors", "DiskPressure", "ClockSkewed")), st.sampled_from(("True", "False"))),
    ),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 3.0, 6.0, 30.0, 700.0))),
    st.tuples(st.just("answer"), st.integers(0, 4), st.sampled_from(("Succeeded", "Failed", "Running"))),
    st.tuples(st.just("approve"), st.integers(0, 4)),
    st.tuples(st.just("release"), st.integers(0, 4)),
    st.tuples(st.just("cordon"), st.integers(0, 4)),
    st.tuples(st.just("remove"), st.integers(0, 4)),
    st.tuples(st.just("budget"), st.booleans()),
)


def happen(made: Cell, event: tuple[Any, ...]) -> None:
    kind, *rest = event
    machine = f"m{rest[0]}" if kind not in ("wait", "budget") else ""
    if machine and machine not in made.nodes:
        return
    match kind:
        case "say":
            made.say(machine, *rest[1])
        case "wait":
            made.wait(rest[0])
        case "answer":
            made.answer(machine, rest[1])
        case "approve" | "release":
            field_ = "approved" if kind == "approve" else "released"
            for name, repair in made.repairs.items():
                if repair.machine == machine:
                    made.repairs[name] = msgspec.structs.replace(repair, **{field_: True})
        case "cordon":
            made.nodes[machine]["spec"]["unschedulable"] = True
        case "remove":
            del made.nodes[machine]
        case "budget":
            made.budget = rest[0]


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens(events: list[tuple[Any, ...]]) -> None:
    made = cell(5)
    made.pods = {f"p{index}": pod(f"p{index}", f"m{index % 5}") for index in range(10)}
    cordoned: set[str] = set()
    for event in events:
        happen(made, event)
        if event[0] == "cordon":
            cordoned |= {f"m{event[1]}"} & made.nodes.keys()
        before = {name: one for name, one in made.repairs.items() if one.status.phase in IN_REPAIR}
        made.settle()
        check(made, cordoned, before)


def check(made: Cell, cordoned: set[str], before: dict[str, Repair]) -> None:
    # Nobody begins beyond the share; machines that leave the cell make it smaller, which ends nothing.
    out = {one.machine for one in made.repairs.values() if one.status.phase in IN_REPAIR}
    out |= {name for name in made.nodes if QUARANTINE_TAINT in made.taints(name)}
    begun = {name for name, one in made.repairs.items() if one.status.phase in IN_REPAIR} - before.keys()
    assert not begun or len(out & made.nodes.keys()) <= made.policy.most(len(made.nodes))
    # A person's own cordon is a person's.
    assert all(made.nodes[name]["spec"].get("unschedulable") for name in cordoned & made.nodes.keys())
    for repair in made.repairs.values():
        status, life = repair.status, made.lives[repair.name]
        assert life[0] == "Suspect"
        assert all(after in MOVES[phase] for phase, after in pairwise(life))
        # Each remedy is tried once, each notice is given once.
        assert max(Counter(one.remedy for one in status.attempts).values(), default=0) <= 1
        assert max(Counter(one.reason for one in status.notices).values(), default=0) <= 1
        assert all(one.state != "Requested" for one in status.attempts[:-1])
        assert (
            not any(one.remedy == "Reboot" and one.state == "Requested" for one in status.attempts) or repair.approved
        )
    for name in made.nodes:
        active = [one for one in made.repairs.values() if one.machine == name and not one.is_final]
        assert len(active) <= 1
        repaired = any(one.status.phase in IN_REPAIR for one in active)
        assert (REPAIR_TAINT in made.taints(name)) == (repaired and len(made.nodes) > 1)
    ended = Counter(one.machine for one in made.repairs.values() if one.is_final)
    assert all(count <= made.policy.history_limit + 1 for name, count in ended.items() if name in made.nodes)


def test_it_recovers_by_itself_and_nothing_was_done() -> None:
    made = cell(3)
    made.say("m0", "DiskErrors", "True")
    made.wait(2)
    assert made.only().phase == "Suspect"
    made.say("m0", "DiskErrors", "False")
    made.settle()
    assert [one.status.phase for one in made.repairs.values()] == ["Healthy"]
    assert not made.evicted
    assert not made.taints("m0")


def test_a_split_drains_nobody_and_one_repair_tells_of_it() -> None:
    made = cell(6)
    made.pods = {f"p{index}": pod(f"p{index}", f"m{index}") for index in range(6)}
    for index in range(4):
        made.say(f"m{index}", "Ready", "Unknown")
    for _ in range(5):
        made.wait(100)
    (witness,) = made.repairs.values()
    assert witness.status.phase == "Suspect"
    assert "taken for the network" in witness.status.message
    assert [notice.reason for notice in witness.status.notices] == ["HeldBack"]
    assert not made.evicted
    for index in range(1, 4):
        made.say(f"m{index}", "Ready", "True")
    made.settle()
    assert made.only("m0").phase != "Suspect", "one silent machine is no split"


def test_a_machine_whose_trouble_comes_again_and_again_is_given_up_until_a_person_lets_it_back() -> None:
    made = cell(3)
    for _ in range(2):
        made.say("m0", "DiskPressure", "True")
        made.settle()
        made.say("m0", "DiskPressure", "False")
        made.answer("m0", "Succeeded")
        made.wait(11)
    assert [one.status.phase for one in made.repairs.values()] == ["Healthy", "Healthy"]
    made.say("m0", "DiskPressure", "True")
    made.settle()
    last = list(made.repairs.values())[-1]
    assert (last.status.phase, last.status.quarantine) == ("Retired", True)
    assert [notice.reason for notice in last.status.notices] == ["Quarantined"]
    assert made.taints("m0") == {QUARANTINE_TAINT}
    assert {"type": "Quarantined", "status": "True"} in made.nodes["m0"]["status"]["conditions"]
    made.wait(1000)
    assert len(made.repairs) == 3, "in quarantine it is left alone"
    made.repairs[last.name] = msgspec.structs.replace(last, released=True)
    made.settle()
    assert QUARANTINE_TAINT not in made.taints("m0")
    assert made.only().quarantine is False, "it begins anew, and is not sent straight back"


def test_trouble_that_comes_back_in_probation_ends_in_quarantine() -> None:
    made = cell(3)
    made.say("m0", "DiskPressure", "True")
    made.settle()
    made.answer("m0", "Succeeded")
    for _ in range(4):
        made.say("m0", "DiskPressure", "False")
        made.settle()
        assert made.only().phase == "Probation"
        made.say("m0", "DiskPressure", "True")
        made.settle()
    (repair,) = made.repairs.values()
    assert (repair.status.phase, repair.status.quarantine, repair.status.relapses) == ("Retired", True, 4)
    assert [one.remedy for one in repair.status.attempts] == ["Prune"]
    assert [one.reason for one in repair.status.notices] == ["Quarantined"]


def test_pods_that_may_not_leave_are_not_rebooted_away() -> None:
    made = cell(3, approvals=frozenset())
    made.pods, made.budget = {"p": pod("p", "m0"), "bare": pod("bare", "m0", owner="")}, True
    made.say("m0", "DiskErrors", "True")
    made.wait(2)
    made.wait(3)
    made.wait(30)
    made.answer("m0", "Failed")
    made.settle()
    status = made.only()
    tried = [(one.remedy, one.state) for one in status.attempts]
    assert tried == [("RestartAgent", "Failed"), ("Reboot", "Skipped")]
    assert set(made.evicted) == {"p"}, "what nothing starts again stays"
    assert not status.drained


def test_what_waits_for_a_person_waits_and_the_person_is_told() -> None:
    made = cell(3)
    made.say("m0", "DiskErrors", "True")
    made.wait(2)
    made.wait(3)
    made.answer("m0", "Failed")
    made.wait(5000)
    status = made.only()
    assert [(one.remedy, one.state) for one in status.attempts] == [("RestartAgent", "Failed"), ("Reboot", "Waiting")]
    assert [one.reason for one in status.notices] == ["NeedsApproval"]
    assert "corral repair approve m0-0" in status.notices[0].text
    made.repairs["m0-0"] = msgspec.structs.replace(made.repairs["m0-0"], approved=True)
    made.settle()
    assert made.only().attempts[-1].state == "Requested"
    made.wait(901)
    assert made.only().attempts[-1].state == "TimedOut"
    assert [one.reason for one in made.only().notices] == ["NeedsApproval", "NeedsPerson"]


def test_a_cell_of_one_machine_is_repaired_where_it_stands() -> None:
    made = cell(1)
    made.pods = {"p": pod("p", "m0")}
    made.say("m0", "DiskErrors", "True")
    made.wait(3)
    made.wait(3)
    status = made.only()
    assert status.phase == "Repairing"
    assert [one.remedy for one in status.attempts] == ["RestartAgent"]
    assert not made.evicted
    assert not made.taints("m0")


def test_a_stage_changes_when_its_time_begins_anew() -> None:
    made = cell(3)
    made.say("m0", "DiskPressure", "True")
    made.settle()
    before = stage(made.only())
    made.answer("m0", "Succeeded")
    made.settle()
    assert stage(made.only()) != before


def test_what_recovered_by_itself_is_forgotten_before_what_counts() -> None:
    made = cell(2, quarantine=Quarantine(50, 86400))
    for trouble in ("DiskPressure", *("DiskErrors",) * 5):
        made.say("m0", trouble, "True")
        made.wait(2)
        made.say("m0", trouble, "False")
        made.answer("m0", "Succeeded")
        made.wait(11)
    lives = [[step.phase for step in one.status.transitions] for one in made.repairs.values()]
    assert lives == [["Suspect", "Cordoned", "Repairing", "Probation", "Healthy"], *[["Suspect", "Healthy"]] * 2]


def test_another_trouble_is_waited_for_anew() -> None:
    made = cell(3)
    made.say("m0", "DiskErrors", "True")
    made.wait(2)
    made.wait(2)
    made.say("m0", "Ready", "Unknown")
    made.wait(2)
    assert (made.only().phase, made.only().rule) == ("Suspect", "unreachable")
    made.wait(5)
    assert made.only().phase != "Suspect"


def test_pods_that_were_let_go_and_cannot_end_do_not_keep_their_machine_from_a_reboot() -> None:
    made = cell(3, approvals=frozenset(), drain_timeout_seconds=600)
    made.pods, made.budget = {"p": pod("p", "m0")}, True
    made.say("m0", "DiskErrors", "True")
    made.wait(2)
    made.wait(3)
    made.pods["p"]["metadata"] |= {"deletionTimestamp": rfc3339(made.now), "deletionGracePeriodSeconds": 10}
    made.wait(39)
    assert made.only().phase == "Cordoned"
    made.wait(1)
    made.answer("m0", "Failed")
    made.settle()
    assert [(one.remedy, one.state) for one in made.only().attempts] == [
        ("RestartAgent", "Failed"),
        ("Reboot", "Requested"),
    ]


def test_a_machine_that_is_removed_is_retired_and_its_successor_is_another_one() -> None:
    made = cell(3)
    made.say("m0", "DiskPressure", "True")
    made.settle()
    gone = made.nodes.pop("m0")
    made.settle()
    (repair,) = made.repairs.values()
    assert (repair.status.phase, repair.status.quarantine) == ("Retired", False)
    gone["metadata"]["uid"] = "another"
    gone["spec"] = {}
    made.nodes["m0"] = gone
    made.settle()
    assert made.only().phase == "Repairing"
    assert made.taints("m0") == {REPAIR_TAINT}

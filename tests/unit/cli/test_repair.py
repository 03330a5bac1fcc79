"""`corral repair`: a repair in a line, its story, and files of rules that name what is wrong with them."""

from datetime import UTC, datetime

import pytest

from corral.base.errors import CorralError
from corral.cli.repair import read_rules, row, story
from corral.cli.status import machine
from corral.cli.status import row as status_row
from corral.fleet.rules import default_text
from corral.kinds.repairs import (
    QUARANTINE_TAINT,
    REPAIR_TAINT,
    Attempt,
    Move,
    Notice,
    Repair,
    RepairStatus,
    Seen,
    Told,
    Transition,
    read,
    written,
)
from corral.kinds.types import Obj

NOW = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
AT = "2026-01-01T00:00:00Z"
STATUS = RepairStatus(
    phase="Repairing",
    message="no remedy has helped: a person is needed",
    rule="disk",
    seen=(Seen("DiskErrors", "True", "IOErrors", "5 errors", AT),),
    transitions=(Transition("Suspect", AT, "DiskErrors is True"), Transition("Cordoned", AT)),
    attempts=(
        Attempt("RestartAgent", "Agent", "Skipped", AT, message="the agent does not answer"),
        Attempt("Remote", "Server", "Failed", AT, message="no such plug"),
    ),
    moved=(
        Move("d", "a", "u1", "ReplicaSet/web", "rs", AT, "m2", "x"),
        Move("d", "b", "u2", "ReplicaSet/web", "rs", AT),
    ),
    notices=(Notice("NeedsPerson", AT, "title", "text"),),
    told=(Told("NeedsPerson", "ops", AT, "Sent"), Told("NeedsPerson", "ann", AT, "Failed", 3, "no answer")),
)


def repair(status: RepairStatus = STATUS) -> Repair:
    obj: Obj = {
        "metadata": {"name": "m1-abc", "creationTimestamp": AT},
        "spec": {"nodeName": "m1", "nodeUID": "uid"},
        "status": written(status),
    }
    return read(obj)


def test_what_is_written_is_read_again() -> None:
    assert repair().status == STATUS
    assert repair(RepairStatus()).status == RepairStatus()


def test_a_repair_in_a_line() -> None:
    assert row(repair(), NOW) == ["m1-abc", "m1", "Repairing", "disk", "Remote", "1/2", "ops", "5m"]
    assert row(repair(RepairStatus()), NOW)[2:7] == ["Suspect", "-", "-", "-", "-"]


def test_the_story_tells_everything() -> None:
    told = "\n".join(story(repair()))
    for said in (
        "repair m1-abc of machine m1: Repairing",
        f"DiskErrors=True since {AT}: IOErrors: 5 errors",
        f"{AT}  Suspect    DiskErrors is True",
        f"{AT}  RestartAgent  Skipped: the agent does not answer",
        f"{AT}  Remote  Failed: no such plug",
        "-> x on m2",
        "gone; nothing has taken its place yet",
        "told: NeedsPerson:",
        f"{AT}  ops  Sent",
        f"{AT}  ann  Failed: no answer",
    ):
        assert said in told


def test_rules_that_are_printed_can_be_set() -> None:
    assert read_rules("rules.yaml", default_text())["kind"] == "RepairPolicy"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read rules.yaml"),
        ("kind: Policy", "it is no RepairPolicy with a spec"),
        ("{kind: RepairPolicy, metadata: {name: mine}, spec: {rules: []}}", "metadata.name must be 'default'"),
        (default_text().replace("type: Prune", "type: Prun"), "remedies[0].type"),
        (default_text().replace("probationSeconds", "probationSecond"), "probationSecond"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_by_their_field(text: str, said: str) -> None:
    with pytest.raises(CorralError) as error:
        read_rules("rules.yaml", text)
    assert said in error.value.message
    assert "corral repair rules" in error.value.remedy


@pytest.mark.parametrize(
    ("taint", "cordoned", "said"),
    [
        ("", False, "NotReady"),
        (REPAIR_TAINT, False, "NotReady,InRepair"),
        (REPAIR_TAINT, True, "NotReady,Cordoned,InRepair"),
        (QUARANTINE_TAINT, False, "NotReady,Quarantined"),
    ],
)
def test_a_machine_says_that_it_is_in_repair(taint: str, cordoned: bool, said: str) -> None:
    taints = [{"key": taint, "value": "m1-abc", "effect": "NoSchedule"}] if taint else []
    spec = {"taints": taints, **({"unschedulable": True} if cordoned else {})}
    node: Obj = {"metadata": {"name": "m1", "creationTimestamp": AT}, "spec": spec, "status": {}}
    assert status_row(machine(node, []))[1] == said

"""What a PodGroup's status says, and when a half-placed gang is given up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.controllers.podgroups.plan import Plan, plan
from corral.kinds import conditions
from corral.kinds.podgroups import counts
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, POD_GROUPS
from corral.kinds.types import Obj

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = ("waiting", "bound", "running", "succeeded", "failed", "ending")


def group(minimum: int, *, native: bool = False, whole: bool = False, **status: object) -> Obj:
    metadata = {"name": "g", "namespace": "default", "uid": "u"}
    if native:
        found: Obj = {"apiVersion": POD_GROUPS.api_version, "metadata": metadata}
        found["spec"] = {"schedulingPolicy": {"gang": {"minCount": minimum}}}
        if whole:
            conditions.set_condition(found, "PodGroupScheduled", "True", now=NOW, reason="Scheduled")
        return found
    if whole:
        status["phase"] = "Scheduled"
    spec = {"minMember": minimum, "scheduleTimeoutSeconds": 10}
    return {"apiVersion": COSCHEDULING_POD_GROUPS.api_version, "metadata": metadata, "spec": spec, "status": status}


def member(number: int, state: str) -> Obj:
    metadata: Obj = {"name": f"p{number}", "namespace": "default", "uid": str(number)}
    if state == "ending":
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    phases = {"running": "Running", "succeeded": "Succeeded", "failed": "Failed", "ending": "Running"}
    status = {"phase": phases.get(state, "Pending")}
    return {"metadata": metadata, "spec": {} if state == "waiting" else {"nodeName": "a"}, "status": status}


def members(text: str) -> list[Obj]:
    return [member(number, state) for number, state in enumerate(text.split())]


def step(owner: Obj, text: str, since: float | None = None) -> Plan:
    """The plan; `since` is how many seconds ago the gang was first seen half placed."""
    return plan(owner, members(text), None if since is None else NOW - timedelta(seconds=since), NOW)


@pytest.mark.parametrize(
    ("text", "whole", "phase"),
    [
        ("", False, "Pending"),
        ("waiting", False, "Pending"),
        ("waiting waiting waiting", False, "PreScheduling"),
        ("bound waiting waiting", False, "Scheduling"),
        ("bound running bound", False, "Scheduled"),
        ("running running running", False, "Running"),
        ("running succeeded running waiting", True, "Running"),
        ("running succeeded waiting", True, "Unknown"),
        ("succeeded succeeded succeeded", True, "Finished"),
        ("failed succeeded", True, "Failed"),
        ("failed ending", True, "Failed"),
    ],
)
def test_the_phase_of_a_coscheduling_group(text: str, *, whole: bool, phase: str) -> None:
    assert step(group(3, whole=whole), text).status["phase"] == phase


def test_the_counts_of_a_coscheduling_group() -> None:
    pods = members("running bound succeeded failed waiting ending")
    pods[0]["metadata"]["ownerReferences"] = [{"name": "train", "kind": "Job"}]
    status = plan(group(3), pods, None, NOW).status
    assert status == {
        "phase": "Running",
        "scheduled": 3,
        "running": 2,
        "succeeded": 1,
        "failed": 1,
        "scheduleStartTime": "2026-01-01T00:00:00Z",
        "occupiedBy": "default/train",
    }
    later = plan({**group(3), "status": status}, members("running"), None, NOW + timedelta(seconds=9)).status
    assert (later["scheduleStartTime"], later["occupiedBy"]) == ("2026-01-01T00:00:00Z", "default/train")


def test_a_group_that_is_done_stays_so_when_its_pods_are_cleared_away() -> None:
    done = group(3, phase="Finished", succeeded=3)
    assert step(done, "").status == done["status"]


def test_the_condition_of_a_native_group_says_why_and_stays_true() -> None:
    owner = group(3, native=True)
    assert step(owner, "waiting waiting").status == {}
    pods = members("waiting waiting waiting")
    refusal = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "only 1 of 3 fit"}
    pods[1]["status"]["conditions"] = [refusal]
    status = plan(owner, pods, None, NOW).status
    assert conditions.get({"status": status}, "PodGroupScheduled") == {
        **refusal,
        "type": "PodGroupScheduled",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = plan({**owner, "status": status}, members("running running bound"), None, NOW).status
    assert conditions.is_true({"status": status}, "PodGroupScheduled")
    assert plan({**owner, "status": status}, pods, None, NOW).status == status


@pytest.mark.parametrize("native", [True, False])
def test_half_a_gang_is_given_up_when_its_time_is_over(*, native: bool) -> None:
    owner, seconds = group(3, native=native), 300 if native else 10
    first = step(owner, "bound running waiting")
    assert (first.since, first.look_again, first.release) == (NOW, seconds, ())
    assert step(owner, "bound running waiting", seconds - 4).look_again == 4
    last = step(owner, "bound running waiting", seconds)
    assert [pod["metadata"]["name"] for pod in last.release] == ["p0", "p1"]
    assert last.message == (
        f"only 2 of 3 members had machines after {seconds} seconds: 2 are deleted to make room for others"
    )


@pytest.mark.parametrize(
    ("text", "whole", "given_up"),
    [
        ("waiting waiting waiting", False, False),
        ("bound bound bound", False, False),
        ("running succeeded succeeded", False, False),
        ("running waiting waiting", True, True),
        ("running running", False, True),
        ("running running", True, False),
        ("running running failed", True, False),
        ("running failed waiting", True, True),
        ("ending ending waiting", True, False),
        ("", True, False),
    ],
)
def test_who_is_given_up(text: str, *, whole: bool, given_up: bool) -> None:
    assert bool(step(group(3, whole=whole), text, 99).release) is given_up


@given(st.integers(0, 5), st.lists(st.sampled_from(STATES), max_size=7), st.booleans(), st.booleans())
def test_after_its_time_no_gang_with_waiting_members_is_half_placed(
    minimum: int, states: list[str], native: bool, whole: bool
) -> None:
    pods = [member(number, state) for number, state in enumerate(states)]
    made = plan(group(minimum, native=native, whole=whole), pods, NOW - timedelta(seconds=999), NOW)
    released = [pod["metadata"]["name"] for pod in made.release]
    left = [pod for pod in pods if pod["metadata"]["name"] not in released]
    holding = [pod for pod in left if counts(pod) and pod["status"]["phase"] != "Succeeded"]
    assert not holding or sum(map(counts, left)) >= minimum or (whole and "waiting" not in states)
    assert all(pod["spec"].get("nodeName") for pod in made.release)

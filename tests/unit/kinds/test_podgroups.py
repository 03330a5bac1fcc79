"""PodGroups of both kinds: who belongs, how many, how long; and what the server refuses."""

import pytest

from corral.kinds.podgroups import (
    LABEL,
    GangKey,
    counts,
    gang_of,
    key_of_group,
    minimum_of,
    timeout_of,
)
from corral.kinds.resources import COSCHEDULING_POD_GROUPS, POD_GROUPS
from corral.kinds.types import Obj
from corral.testing.scheduling import pod


def native(policy: Obj) -> Obj:
    metadata = {"name": "g", "namespace": "default"}
    return {"apiVersion": POD_GROUPS.api_version, "metadata": metadata, "spec": {"schedulingPolicy": policy}}


def coscheduling(**spec: int) -> Obj:
    metadata = {"name": "g", "namespace": "default"}
    return {"apiVersion": COSCHEDULING_POD_GROUPS.api_version, "metadata": metadata, "spec": spec}


def test_a_pod_names_its_group_in_either_way() -> None:
    native = pod("p", schedulingGroup={"podGroupName": "a"}, labels={LABEL: "b"})
    assert gang_of(native) == GangKey(POD_GROUPS.group, "default", "a")
    assert gang_of(pod("p", labels={LABEL: "b"})) == GangKey(COSCHEDULING_POD_GROUPS.group, "default", "b")
    assert gang_of(pod("p", schedulingGroup={})) is None
    assert gang_of(pod("p")) is None


def test_a_group_of_either_kind_says_how_many() -> None:
    assert minimum_of(native({"gang": {"minCount": 4}})) == 4
    assert minimum_of(native({"basic": {}})) == 0
    assert minimum_of(coscheduling(minMember=3)) == 3
    assert minimum_of(coscheduling()) == 0


@pytest.mark.parametrize(
    ("node_name", "phase", "expected"),
    [
        ("", "Pending", False),
        ("a", "Pending", True),
        ("a", "Running", True),
        ("a", "Succeeded", True),
        ("a", "Failed", False),
    ],
)
def test_which_members_count(node_name: str, phase: str, *, expected: bool) -> None:
    member = {**pod("p", node_name=node_name), "status": {"phase": phase}}
    assert counts(member) is expected
    member["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert counts(member) is (phase == "Succeeded")


def test_a_gang_that_does_not_say_how_long_has_the_time_of_its_kind() -> None:
    assert timeout_of(native({"gang": {"minCount": 4}})) == 300
    assert timeout_of(coscheduling(minMember=3)) == 60
    assert timeout_of(coscheduling(minMember=3, scheduleTimeoutSeconds=10)) == 10
    assert key_of_group(coscheduling()) == GangKey("scheduling.x-k8s.io", "default", "g")

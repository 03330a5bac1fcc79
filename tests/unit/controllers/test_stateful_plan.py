"""StatefulSets in simulation: order, updates from the top, and never two pods of one ordinal."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.statefulsets.identity import Revision, new_claims, new_pod, ordinal_of, retained_by, revision_of
from corral.controllers.statefulsets.plan import Plan, plan
from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH


def stateful_set(replicas: int = 3, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"d": "x"}}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    return {
        "kind": "StatefulSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "db", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"d": "x"}},
            "template": template,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            **spec,
        },
    }


class World:
    """Pods become ready, vanish after deletion and fail only when told to."""

    def __init__(self, made: Obj) -> None:
        self.set = made
        self.pods: dict[int, Obj] = {}
        self.now = EPOCH
        self.current = self.update = Revision("db-1", made["spec"]["template"])
        self.log: list[str] = []

    def step(self) -> Plan:
        made = plan(self.set, deepcopy(list(self.pods.values())), self.current, self.update, self.now)
        for pod in made.delete:
            ordinal = ordinal_of(self.set, pod)
            assert ordinal is not None
            self.pods[ordinal]["metadata"]["deletionTimestamp"] = rfc3339(self.now)
            self.log.append(f"-{ordinal}")
        for ordinal, revision in made.create:
            assert ordinal not in self.pods, "two pods of one ordinal"
            self.pods[ordinal] = new_pod(self.set, ordinal, revision)
            self.log.append(f"+{ordinal}@{revision.name[-1]}")
        self.set["status"] = made.status
        if made.status["currentRevision"] == self.update.name:
            self.current = self.update
        return made

    def ready(self, ordinal: int, state: bool = True) -> None:
        condition = {"type": "Ready", "status": str(state), "lastTransitionTime": rfc3339(self.now)}
        self.pods[ordinal]["status"] = {"phase": "Running", "conditions": [condition]}

    def settle(self, rounds: int = 40) -> list[str]:
        """Let everything happen that wants to happen; what was done meanwhile."""
        self.log.clear()
        for _ in range(rounds):
            self.step()
            for ordinal, pod in list(self.pods.items()):
                if pod["metadata"].get("deletionTimestamp"):
                    del self.pods[ordinal]
                elif not pod.get("status"):
                    self.ready(ordinal)
        return list(self.log)

    def change(self) -> None:
        number = int(self.update.name[-1]) + 1
        self.update = Revision(f"db-{number}", self.set["spec"]["template"])


def test_starts_in_order_and_ends_in_reverse() -> None:
    world = World(stateful_set(3))
    assert [len(world.step().create) for _ in range(3)] == [1, 0, 0]
    world.ready(0)
    assert world.step().create[0][0] == 1
    assert world.settle() == ["+2@1"]
    world.set["spec"]["replicas"] = 1
    assert world.settle() == ["-2", "-1"]
    assert world.set["status"]["replicas"] == 1


def test_parallel_does_not_wait() -> None:
    world = World(stateful_set(3, podManagementPolicy="Parallel"))
    assert [ordinal for ordinal, _ in world.step().create] == [0, 1, 2]
    world.settle()
    world.set["spec"]["replicas"] = 0
    assert len(world.step().delete) == 3


def test_an_update_goes_from_the_top_one_by_one() -> None:
    world = World(stateful_set(3))
    world.settle()
    world.change()
    assert world.settle() == ["-2", "+2@2", "-1", "+1@2", "-0", "+0@2"]
    assert world.set["status"]["currentRevision"] == "db-2"


def test_an_update_stops_at_the_partition_and_at_a_pod_that_does_not_come_up() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    world = World(stateful_set(4, updateStrategy=rolling))
    world.settle()
    world.change()
    assert world.settle() == ["-3", "+3@2", "-2", "+2@2"]
    del world.pods[0]
    assert world.settle() == ["+0@1"], "below the partition the former template counts"
    rolling["rollingUpdate"]["partition"] = 0  # type: ignore[index]
    world.ready(3, False)
    assert world.settle() == []


def test_more_may_be_away_at_once() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}
    world = World(stateful_set(4, updateStrategy=rolling))
    world.settle()
    world.change()
    assert [ordinal_of(world.set, pod) for pod in world.step().delete] == [3, 2]


def test_nothing_is_replaced_on_delete_only() -> None:
    world = World(stateful_set(2, updateStrategy={"type": "OnDelete"}))
    world.settle()
    world.change()
    assert world.settle() == []
    del world.pods[1]
    assert world.settle() == ["+1@2"]


def test_a_pod_that_ended_is_made_again_once_it_is_gone() -> None:
    world = World(stateful_set(2))
    world.settle()
    world.pods[0]["status"]["phase"] = "Failed"
    assert world.settle() == ["-0", "+0@1"]


def test_waits_until_a_pod_has_been_ready_long_enough() -> None:
    world = World(stateful_set(2, minReadySeconds=30))
    world.step()
    world.ready(0)
    made = world.step()
    assert (made.create, made.look_again) == ((), 30.0)
    world.now += timedelta(seconds=30)
    assert [ordinal for ordinal, _ in world.step().create] == [1]


def test_of_surplus_pods_a_broken_one_below_does_not_block_itself() -> None:
    world = World(stateful_set(3))
    world.settle()
    world.set["spec"]["replicas"] = 0
    world.ready(1, False)
    assert world.settle() == ["-2", "-1", "-0"]


def test_surplus_pods_that_ended_go_whatever_their_number() -> None:
    world = World(stateful_set(3))
    world.settle()
    for pod in world.pods.values():
        pod["status"] = {"phase": "Failed"}
    world.set["spec"]["replicas"] = 0
    assert world.settle() == ["-2", "-1", "-0"]


def test_the_pod_has_a_name_a_place_and_claims() -> None:
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    made = stateful_set(volumeClaimTemplates=[template])
    pod = new_pod(made, 4, Revision("db-1", made["spec"]["template"]))
    assert pod["metadata"]["name"] == pod["spec"]["hostname"] == "db-4"
    assert pod["spec"]["subdomain"] == "db"
    assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "4"
    assert revision_of(pod) == "db-1"
    (volume,) = pod["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == "data-db-4"
    (claim,) = new_claims(made, 4)
    assert claim["metadata"]["name"] == "data-db-4"
    assert claim["metadata"]["labels"] == {"d": "x"}


@pytest.mark.parametrize(
    ("policy", "condemned", "owners"),
    [
        ({}, True, []),
        ({"whenDeleted": "Delete"}, False, ["StatefulSet"]),
        ({"whenDeleted": "Delete", "whenScaled": "Delete"}, True, ["Pod"]),
        ({"whenScaled": "Delete"}, True, ["Pod"]),
        ({"whenScaled": "Delete"}, False, []),
    ],
)
def test_claims_go_with_whom_the_policy_says(policy: Obj, condemned: bool, owners: list[str]) -> None:
    made = stateful_set(persistentVolumeClaimRetentionPolicy=policy)
    pod: Obj = {"metadata": {"name": "db-0", "uid": "p"}}
    claim: Obj = {"metadata": {"name": "data-db-0", "ownerReferences": []}}
    wanted = retained_by(made, claim, pod, condemned=condemned)
    assert [reference["kind"] for reference in wanted or []] == owners
    claim["metadata"]["ownerReferences"] = wanted or []
    assert retained_by(made, claim, pod, condemned=condemned) is None
    claim["metadata"]["ownerReferences"] = [controller_reference(made), {"kind": "Backup", "name": "b", "uid": "b"}]
    kept = retained_by(stateful_set(), claim, pod, condemned=False)
    assert [reference["kind"] for reference in kept or []] == ["Backup"]


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("scale"), st.integers(0, 5)),
            st.tuples(st.just("update"), st.just(0)),
            st.tuples(st.sampled_from(["fail", "lose", "unready"]), st.integers(0, 4)),
            st.tuples(st.just("steps"), st.integers(1, 4)),
        ),
        max_size=12,
    ),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.integers(0, 3),
)
def test_converges_whatever_happens(events: list[tuple[str, int]], policy: str, partition: int) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    world = World(stateful_set(3, podManagementPolicy=policy, updateStrategy=rolling))
    for event, number in events:
        if event == "scale":
            world.set["spec"]["replicas"] = number
        elif event == "update" and int(world.update.name[-1]) < 9:
            world.change()
        elif event == "steps":
            world.settle(number)
        elif number in world.pods and event == "fail":
            world.pods[number]["status"] = {"phase": "Failed"}
        elif number in world.pods and event == "lose":
            del world.pods[number]
        elif number in world.pods:
            world.ready(number, False)
    for ordinal in world.pods:
        if world.pods[ordinal].get("status", {}).get("phase") == "Running":
            world.ready(ordinal)
    world.settle(80)
    replicas = world.set["spec"]["replicas"]
    assert sorted(world.pods) == list(range(replicas))
    assert all(revision_of(world.pods[at]) == world.update.name for at in range(partition, replicas))
    assert world.settle(3) == []

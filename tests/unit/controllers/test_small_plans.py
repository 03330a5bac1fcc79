"""ReplicaSets, victims, claims, pod clean-up and machines' signs of life: tables."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.nodelifecycle.plan import sighting, silent_in, taints, unknown_status
from corral.controllers.podgc.plan import QUARANTINE, Clear, Wait, failed, judge, surplus
from corral.controllers.pods.batches import slow_start
from corral.controllers.pods.claim import claim, release_patch
from corral.controllers.pods.pods import counts_alike
from corral.controllers.pods.rank import DELETION_COST, victims
from corral.controllers.replicasets.plan import census, plan, status
from corral.controllers.replicasets.roll import sorted_out
from corral.kinds import conditions
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH


def pod(name: str, phase: str = "Running", *, ready: bool = True, age: int = 0, **metadata: Any) -> Obj:
    moment = rfc3339(EPOCH - timedelta(seconds=age))
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": moment}
    return {
        "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": moment, **metadata},
        "spec": {"nodeName": "m"},
        "status": {"phase": phase, "conditions": [condition]},
    }


def replica_set(replicas: int, **spec: Any) -> Obj:
    return {
        "metadata": {"name": "rs", "namespace": "n", "uid": "rs", "generation": 4},
        "spec": {"replicas": replicas, "template": {"metadata": {"labels": {"a": "b"}}}, **spec},
    }


def test_the_cheapest_loss_goes_first() -> None:
    unassigned = pod("unassigned", "Pending", ready=False)
    unassigned["spec"] = {}
    restarted = pod("restarted", age=900)
    restarted["status"]["containerStatuses"] = [{"restartCount": 5}]
    order = [
        unassigned,
        pod("pending", "Pending", ready=False),
        pod("not-ready", ready=False),
        pod("cheap", annotations={DELETION_COST: "-5"}),
        pod("young", age=10),
        restarted,
        pod("old", age=900),
        pod("dear", annotations={DELETION_COST: "7"}),
    ]
    assert victims(reversed(order), len(order), EPOCH) == order
    assert victims(order, 2, EPOCH) == order[:2]


def test_crowded_machines_lose_first() -> None:
    alone, crowded = pod("alone", age=100), pod("crowded", age=100)
    crowded["spec"]["nodeName"] = "busy"
    found = victims([alone, crowded], 1, EPOCH, crowding=lambda one: 3 if one["spec"]["nodeName"] == "busy" else 1)
    assert found == [crowded]


@pytest.mark.parametrize(
    ("replicas", "phases", "create", "delete"),
    [(3, [], 3, 0), (3, ["Running"] * 3, 0, 0), (2, ["Running"] * 3, 0, 1), (2, ["Running", "Failed"], 1, 0)],
)
def test_replica_set_numbers(replicas: int, phases: list[str], create: int, delete: int) -> None:
    pods = [pod(f"p{number}", phase) for number, phase in enumerate(phases)]
    wanted = replica_set(replicas)
    made = plan(wanted, census(wanted, sorted_out(pods), EPOCH), EPOCH)
    assert (made.create, len(made.delete)) == (create, delete)


def test_replica_set_status_and_min_ready_seconds() -> None:
    leaving = pod("leaving", deletionTimestamp=rfc3339(EPOCH))
    pods = [pod("a", age=100, labels={"a": "b"}), pod("b", age=4), pod("c", ready=False), leaving]
    wanted = replica_set(3, minReadySeconds=10)
    counted = census(wanted, sorted_out(pods), EPOCH)
    made = status(wanted, counted, EPOCH, failure=None)
    assert made == {
        "replicas": 3,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "terminatingReplicas": 1,
        "observedGeneration": 4,
    }
    assert plan(wanted, counted, EPOCH).look_again == pytest.approx(6)
    wanted["status"] = status(wanted, counted, EPOCH, failure=("FailedCreate", "quota"))
    assert conditions.is_true(wanted, "ReplicaFailure")
    assert "conditions" not in status(wanted, counted, EPOCH, failure=None)


def test_claims() -> None:
    owner: Obj = {
        "kind": "ReplicaSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "rs", "namespace": "n", "uid": "u"},
    }
    selector = LabelSelector.parse("a=b")
    ours = [{"uid": "u", "controller": True}]
    kept = pod("kept", labels={"a": "b"}, ownerReferences=ours)
    lost = pod("lost", labels={"a": "c"}, ownerReferences=ours, finalizers=["f", "g"])
    orphan, stranger = pod("orphan", labels={"a": "b"}), pod("stranger")
    leaving = pod("leaving", labels={"a": "b"}, deletionTimestamp=rfc3339(EPOCH))
    made = claim(owner, selector, [kept, lost], [orphan, stranger, leaving])
    assert (made.held, made.release, made.adopt) == ((kept,), (lost,), (orphan,))
    lost["metadata"]["resourceVersion"] = "1"
    assert release_patch(lost, owner, finalizer="f")["metadata"] == {
        "uid": "lost",
        "resourceVersion": "1",
        "ownerReferences": None,
        "finalizers": ["g"],
    }
    owner["metadata"]["deletionTimestamp"] = rfc3339(EPOCH)
    made = claim(owner, selector, [kept, lost], [orphan])
    assert (made.held, made.release, made.adopt) == ((kept, lost), (), ())


def test_pods_of_vanished_machines_wait_in_quarantine() -> None:
    one = pod("p")
    assert judge(one, gone_for=None) is None
    assert judge(one, gone_for=10) == Wait(QUARANTINE - 10)
    verdict = judge(one, gone_for=QUARANTINE)
    assert verdict == Clear("PodGC: node no longer exists")
    assert judge(pod("p", "Succeeded"), gone_for=QUARANTINE) == Clear("")
    made = failed(one, "why", EPOCH)
    assert made["phase"] == "Failed"
    assert conditions.is_true({"status": made}, "DisruptionTarget")


def test_the_oldest_ended_pods_are_surplus() -> None:
    pods = [pod(f"p{age}", "Succeeded", age=age) for age in (5, 9, 1, 7)]
    assert [one["metadata"]["name"] for one in surplus(pods, 2)] == ["p9", "p7"]
    assert surplus(pods, 4) == []


def node(**status_of: str) -> Obj:
    found = [{"type": type_, "status": value} for type_, value in status_of.items()]
    return {"metadata": {"name": "m"}, "spec": {}, "status": {"conditions": found}}


def test_silence_is_measured_by_our_own_clock() -> None:
    machine = node(Ready="True")
    lease: Obj = {"spec": {"renewTime": "1999-01-01T00:00:00Z"}}
    first = sighting(machine, lease, None, 1000.0)
    later = 1039.0
    assert sighting(machine, lease, first, later) == first
    assert silent_in(first, 40, later) == pytest.approx(1)
    lease["spec"]["renewTime"] = "1999-01-01T00:00:10Z"
    assert sighting(machine, lease, first, later).at == later


def test_a_silent_machine_is_unknown() -> None:
    machine = node(Ready="True", MemoryPressure="False")
    machine["status"] = unknown_status(machine, EPOCH)
    assert {c["type"]: c["status"] for c in machine["status"]["conditions"]} == {
        "Ready": "Unknown",
        "MemoryPressure": "Unknown",
    }
    assert unknown_status(machine, EPOCH) is None


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (node(Ready="True"), set()),
        (node(Ready="False"), {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        (node(Ready="Unknown"), {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
        (node(Ready="True", DiskPressure="True"), {("disk-pressure", "NoSchedule")}),
    ],
)
def test_taints_follow_conditions(machine: Obj, expected: set[tuple[str, str]]) -> None:
    mine = {"key": "mine", "effect": "NoSchedule"}
    stale = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
    machine["spec"]["taints"] = [mine, stale]
    made = taints(machine, EPOCH)
    assert made is not None
    assert mine in made
    assert {(taint["key"].removeprefix("node.kubernetes.io/"), taint["effect"]) for taint in made if taint != mine} == (
        expected
    )
    machine["spec"]["taints"] = made
    assert taints(machine, EPOCH) is None


@pytest.mark.parametrize(("there", "wanted", "created"), [(0, 400, 400), (3, 9_999, 500), (1_200, 9_999, 1_200)])
def test_a_step_makes_a_burst_or_doubles_what_is_there(there: int, wanted: int, created: int) -> None:
    wanted_set = replica_set(wanted)
    pods = census(wanted_set, sorted_out(pod(f"p{number}") for number in range(there)), EPOCH)
    assert plan(wanted_set, pods, EPOCH).create == created


_PODS = st.builds(
    pod,
    st.just("p"),
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
    ready=st.booleans(),
    age=st.integers(0, 20),
    labels=st.sampled_from([{"a": "b"}, {"a": "c"}, {}]),
    deletionTimestamp=st.sampled_from(["", rfc3339(EPOCH)]),
)


@given(_PODS, _PODS, st.integers(0, 2), st.integers(0, 15))
def test_pods_that_count_alike_make_the_same_plan(old: Obj, new: Obj, replicas: int, ready_for: int) -> None:
    new["spec"] = {"nodeName": "elsewhere"}
    wanted = replica_set(replicas, minReadySeconds=ready_for)

    def outcome(one: Obj) -> tuple[int, int, float | None, Obj]:
        pods = census(wanted, sorted_out([one]), EPOCH)
        step = plan(wanted, pods, EPOCH)
        return step.create, len(step.delete), step.look_again, status(wanted, pods, EPOCH, failure=None)

    assert not counts_alike(old, new) or outcome(old) == outcome(new)


async def test_growing_batches_stop_growing_and_stop_at_a_refusal() -> None:
    at_once: list[int] = []
    running = 0

    async def act(number: int) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0)
        running -= 1
        if number == 1_000:
            raise StatusError(403, "Forbidden", "no more")

    outcome = await slow_start(range(5_000), act)
    assert max(at_once) == 250
    assert outcome.refused is not None
    assert outcome.done == len(at_once) - 1 < 1_300


async def test_batches_end_when_it_is_enough() -> None:
    done: list[int] = []

    async def act(number: int) -> None:
        done.append(number)

    outcome = await slow_start(range(5_000), act, enough=lambda: len(done) > 100)
    assert outcome.done == len(done) == 127
    assert (await slow_start(range(3), act, enough=lambda: True)).done == 1

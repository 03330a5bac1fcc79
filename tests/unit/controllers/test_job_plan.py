"""Jobs in simulation: whatever happens to the pods and to our own writes, each pod is counted once."""

import random
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.jobs.demand import Failures
from corral.controllers.jobs.finishing import is_finished
from corral.controllers.jobs.indexes import parse, render
from corral.controllers.jobs.plan import Plan, plan
from corral.controllers.jobs.pods import FINALIZER, new_pod
from corral.kinds import conditions
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH


def make_job(**spec: Any) -> Obj:
    template = {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
    metadata = {"name": "j", "namespace": "default", "uid": "job-uid"}
    base = {"parallelism": 1, "completions": 1, "backoffLimit": 6, "template": template, **spec}
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": metadata,
        "spec": {name: value for name, value in base.items() if value is not None},
    }


class World:
    """A job and its pods, changed as an API server and machines would."""

    def __init__(self, job: Obj, seed: int = 0) -> None:
        self.job = job
        self.pods: dict[str, Obj] = {}
        self.failures = Failures()
        self.now: datetime = EPOCH
        self.rng = random.Random(seed)
        self.serial = 0
        self.ended: dict[str, str] = {}
        self.most_active = 0
        self.said: list[str] = []

    def step(self, *, lose_status: bool = False, settle: float = 1.0) -> Plan:
        """One reconcile; `lose_status`: the write of the status fails; `settle`: the share of finalizers taken off."""
        made = plan(deepcopy(self.job), deepcopy(list(self.pods.values())), self.failures, self.now)
        for pod in made.drop:
            self._let_go(pod["metadata"]["name"])
            self.remove(pod["metadata"]["name"])
        for pod in made.stop:
            self.remove(pod["metadata"]["name"])
        for creation in made.create:
            pod = new_pod(self.job, creation.index, dict(creation.annotations), self.rng)
            self.serial += 1
            name = pod["metadata"].get("name") or f"j-{self.serial}"
            pod["metadata"].update(name=name, uid=f"u{self.serial}", creationTimestamp=rfc3339(self.now))
            self.pods[name] = pod
        self.most_active = max(self.most_active, len(self.active()))
        if lose_status:
            return made
        self.job["status"] = deepcopy(made.status)
        self.failures = made.failures
        self.said += [saying.reason for saying in made.say]
        for pod in made.settle:
            if self.rng.random() < settle:
                self._let_go(pod["metadata"]["name"])
        return made

    def active(self) -> list[str]:
        return [
            name
            for name, pod in self.pods.items()
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            and not pod["metadata"].get("deletionTimestamp")
        ]

    def end(self, name: str, phase: str, **status: Any) -> None:
        pod = self.pods[name]
        if FINALIZER in pod["metadata"].get("finalizers", ()):
            self.ended[pod["metadata"]["uid"]] = phase
        pod["status"] = {"phase": phase, **status}

    def remove(self, name: str) -> None:
        """Delete gracefully: the pod ends as Failed and goes once no finalizer holds it."""
        pod = self.pods.get(name)
        if pod is None:
            return
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            pod["metadata"]["deletionTimestamp"] = rfc3339(self.now)
            self.end(name, "Failed")
        self._collect(name)

    def _collect(self, name: str) -> None:
        pod = self.pods[name]
        if not pod["metadata"].get("finalizers") and pod["metadata"].get("deletionTimestamp"):
            del self.pods[name]

    def _let_go(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is not None:
            pod["metadata"]["finalizers"] = []
            self._collect(name)

    @property
    def status(self) -> Obj:
        found: Obj = self.job.get("status", {})
        return found


def test_one_pod_succeeds() -> None:
    world = World(make_job())
    world.step()
    assert world.status["active"] == 1
    assert world.status["startTime"] == rfc3339(EPOCH)
    (name,) = world.pods
    world.end(name, "Succeeded")
    world.step()
    assert world.status["uncountedTerminatedPods"] == {"succeeded": ["u1"]}
    assert conditions.is_true(world.job, "SuccessCriteriaMet")
    assert not is_finished(world.job)
    world.step()
    assert conditions.is_true(world.job, "Complete")
    assert world.status["succeeded"] == 1
    assert world.said == ["Completed"]
    before = deepcopy(world.status)
    world.step()
    assert world.status == before


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    completions=st.one_of(st.none(), st.integers(1, 8)),
    parallelism=st.integers(1, 5),
    indexed=st.booleans(),
    failing=st.floats(0, 0.5),
)
def test_no_pod_is_lost_or_counted_twice(
    seed: int, completions: int | None, parallelism: int, indexed: bool, failing: float
) -> None:
    indexed = indexed and completions is not None
    mode = "Indexed" if indexed else None
    job = make_job(completions=completions, parallelism=parallelism, completionMode=mode, backoffLimit=10_000)
    world = World(job, seed)
    rng = random.Random(seed)
    for _ in range(400):
        world.step(lose_status=rng.random() < 0.2, settle=rng.choice((0.0, 0.5, 1.0)))
        if is_finished(world.job):
            break
        world.now += timedelta(seconds=rng.choice((0, 1, 700)))
        for name in world.active():
            if rng.random() < 0.4:
                world.end(name, "Failed" if rng.random() < failing else "Succeeded")
            elif rng.random() < 0.05:
                world.remove(name)
        if completions is not None:
            assert len(world.active()) <= parallelism
    assert conditions.is_true(world.job, "Complete")
    assert world.most_active <= parallelism
    phases = list(world.ended.values())
    assert world.status.get("failed", 0) == phases.count("Failed")
    if indexed:
        assert world.status["completedIndexes"] == render(range(completions or 0))
        assert world.status["succeeded"] == completions
    else:
        assert world.status["succeeded"] == phases.count("Succeeded")


def test_replacements_wait_longer_after_each_failure() -> None:
    world = World(make_job(backoffLimit=20))
    world.step()
    waits = []
    for _ in range(8):
        (name,) = world.active()
        world.end(name, "Failed", containerStatuses=[{"state": {"terminated": {"finishedAt": rfc3339(world.now)}}}])
        made = world.step()
        assert made.look_again is not None
        assert not world.active()
        waits.append(round(made.look_again))
        world.now += timedelta(seconds=made.look_again)
        world.step()
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600]


def test_back_off_limit_ends_the_job() -> None:
    world = World(make_job(backoffLimit=1))
    for _ in range(2):
        world.step()
        world.now += timedelta(seconds=700)
        world.step()
        (name,) = world.active()
        world.end(name, "Failed")
    world.step()
    world.step()
    failed = conditions.get(world.job, "Failed")
    assert failed is not None
    assert failed["reason"] == "BackoffLimitExceeded"
    assert world.status["failed"] == 2
    assert world.said == ["BackoffLimitExceeded"]


def test_restarts_in_place_count_for_on_failure() -> None:
    job = make_job(backoffLimit=3)
    job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    world = World(job)
    world.step()
    (name,) = world.pods
    world.pods[name]["status"] = {"phase": "Running", "containerStatuses": [{"restartCount": 3}]}
    world.step()
    assert conditions.is_true(world.job, "FailureTarget")
    assert not world.active()


def test_deadline() -> None:
    world = World(make_job(activeDeadlineSeconds=30))
    assert world.step().look_again == pytest.approx(30)
    world.now += timedelta(seconds=30)
    world.step()
    assert not world.active()
    world.step()
    world.step()
    failed = conditions.get(world.job, "Failed")
    assert failed is not None
    assert failed["reason"] == "DeadlineExceeded"


def test_suspend_and_resume() -> None:
    world = World(make_job())
    world.step()
    world.job["spec"]["suspend"] = True
    world.step()
    assert conditions.is_true(world.job, "Suspended")
    assert "startTime" not in world.status
    assert not world.active()
    world.job["spec"]["suspend"] = False
    world.now += timedelta(seconds=100)
    world.step()
    assert not conditions.is_true(world.job, "Suspended")
    assert world.status["startTime"] == rfc3339(world.now)
    assert len(world.active()) == 1
    assert world.status.get("failed", 0) == 0
    assert world.said == ["Suspended", "Resumed"]


@pytest.mark.parametrize(
    ("action", "reason", "failed"), [("FailJob", "PodFailurePolicy", 1), ("Ignore", "", 0), ("Count", "", 1)]
)
def test_pod_failure_policy(action: str, reason: str, failed: int) -> None:
    rule = {"action": action, "onExitCodes": {"operator": "In", "values": [42]}}
    world = World(make_job(podFailurePolicy={"rules": [rule]}))
    world.step()
    (name,) = world.pods
    world.end(name, "Failed", containerStatuses=[{"name": "c", "state": {"terminated": {"exitCode": 42}}}])
    world.step()
    world.step()
    assert world.status.get("failed", 0) == failed
    ended = conditions.get(world.job, "Failed")
    assert (ended or {}).get("reason", "") == reason


def test_success_policy_ends_with_the_leader() -> None:
    policy = {"rules": [{"succeededIndexes": "0"}]}
    world = World(make_job(completions=3, parallelism=3, completionMode="Indexed", successPolicy=policy))
    world.step()
    leader = next(name for name in world.pods if name.startswith("j-0-"))
    world.end(leader, "Succeeded")
    for _ in range(4):
        world.step()
    complete = conditions.get(world.job, "Complete")
    assert complete is not None
    assert complete["reason"] == "SuccessPolicy"
    assert world.status["completedIndexes"] == "0"


def test_each_index_has_its_own_back_off_limit() -> None:
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1}
    world = World(make_job(**spec, backoffLimit=2**31 - 1))
    world.step()
    good = next(name for name in world.pods if name.startswith("j-1-"))
    world.end(good, "Succeeded")
    for _ in range(12):
        for name in world.active():
            world.end(name, "Failed")
        world.step()
        world.now += timedelta(seconds=700)
    failed = conditions.get(world.job, "Failed")
    assert failed is not None
    assert failed["reason"] == "FailedIndexes"
    assert world.status["failedIndexes"] == "0"
    assert world.status["completedIndexes"] == "1"
    assert world.status["failed"] == 2


def test_only_failed_pods_are_replaced_if_asked() -> None:
    world = World(make_job(podReplacementPolicy="Failed"))
    world.step()
    (name,) = world.pods
    world.pods[name]["metadata"]["deletionTimestamp"] = rfc3339(world.now)
    world.step()
    assert len(world.pods) == 1
    assert world.status["terminating"] == 1
    world.end(name, "Failed")
    world.now += timedelta(seconds=700)
    world.step()
    world.step()
    assert len(world.active()) == 1


@given(st.frozensets(st.integers(0, 200)))
def test_indexes_survive_the_wire(indexes: frozenset[int]) -> None:
    assert parse(render(indexes)) == indexes


def test_index_ranges_read_as_kubernetes_writes_them() -> None:
    assert render([1, 3, 4, 5, 7, 8]) == "1,3-5,7,8"

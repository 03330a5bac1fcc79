"""Rollouts in simulation: bounds hold at every step, and every rollout ends."""

import random
from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.deployments.plan import Plan, plan
from corral.controllers.deployments.revisions import REVISION, REVISION_HISTORY, revision_of
from corral.controllers.deployments.sizes import bounds
from corral.kinds import conditions
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH


def make_deployment(replicas: int = 3, image: str = "v1", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            **spec,
        },
    }


class World:
    """A Deployment, and ReplicaSets whose pods come and become available at their own pace."""

    def __init__(self, deployment: Obj, seed: int = 0) -> None:
        self.deployment = deployment
        self.sets: dict[str, Obj] = {}
        self.rng = random.Random(seed)
        self.now = EPOCH
        self.created: list[str] = []

    def set_image(self, image: str) -> None:
        self.deployment["spec"]["template"]["spec"]["containers"][0]["image"] = image
        self.deployment["metadata"]["generation"] += 1

    def step(self) -> Plan:
        made = plan(deepcopy(self.deployment), deepcopy(list(self.sets.values())), [], self.now)
        if made.create is not None:
            name = made.create["metadata"]["name"]
            assert name not in self.sets
            created = deepcopy(made.create)
            created["metadata"].update(uid=name, generation=1, creationTimestamp=rfc3339(self.now))
            self.sets[name] = created
            self.created.append(name)
        if made.refresh:
            current = self._current()
            current["metadata"]["annotations"].update(made.refresh.get("metadata", {}).get("annotations", {}))
        for scale in made.scale:
            found = self.sets[scale.replica_set["metadata"]["name"]]
            found["spec"]["replicas"] = scale.replicas
            found["metadata"]["annotations"].update(scale.annotations)
        for old in made.delete:
            del self.sets[old["metadata"]["name"]]
        self.deployment["status"] = made.status
        if made.revision:
            self.deployment["metadata"].setdefault("annotations", {})[REVISION] = str(made.revision)
        return made

    def _current(self) -> Obj:
        image = self.deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return next(
            found
            for found in self.sets.values()
            if found["spec"]["template"]["spec"]["containers"][0]["image"] == image
        )

    def pods_move(self, share: float = 1.0, *, broken: str = "") -> None:
        """ReplicaSets follow their specs and pods become available, each with probability `share`."""
        for found in self.sets.values():
            status = found.setdefault("status", {"replicas": 0, "availableReplicas": 0})
            if self.rng.random() <= share:
                status["replicas"] = found["spec"]["replicas"]
                status["availableReplicas"] = min(status.get("availableReplicas", 0), status["replicas"])
                status["observedGeneration"] = 1
            image = found["spec"]["template"]["spec"]["containers"][0]["image"]
            if image != broken:
                room = status["replicas"] - status["availableReplicas"]
                status["availableReplicas"] += sum(self.rng.random() <= share for _ in range(max(0, room)))
            status["readyReplicas"] = status["availableReplicas"]

    def roll_out(self, steps: int = 200, share: float = 1.0) -> None:
        for _ in range(steps):
            self.step()
            self.pods_move(share)
            self.now += timedelta(seconds=1)

    def sizes(self) -> dict[str, int]:
        return {
            found["spec"]["template"]["spec"]["containers"][0]["image"]: found["spec"]["replicas"]
            for found in self.sets.values()
        }

    def really_available(self) -> int:
        return sum(
            min(found["spec"]["replicas"], found.get("status", {}).get("availableReplicas", 0))
            for found in self.sets.values()
        )


def test_a_first_rollout() -> None:
    world = World(make_deployment())
    world.step()
    assert world.sizes() == {"v1": 3}
    world.roll_out(3)
    status = world.deployment["status"]
    assert status["availableReplicas"] == status["updatedReplicas"] == status["replicas"] == 3
    progressing = conditions.get(world.deployment, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"
    assert conditions.is_true(world.deployment, "Available")
    assert revision_of(world.deployment) == 1
    before = deepcopy(status)
    made = world.step()
    assert made.status == before
    assert made == Plan(made.status)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    replicas=st.integers(1, 12),
    surge=st.one_of(st.integers(0, 5), st.sampled_from(["0%", "25%", "100%"])),
    unavailable=st.one_of(st.integers(0, 5), st.sampled_from(["0%", "25%", "100%"])),
    share=st.floats(0.2, 1.0),
)
def test_a_rolling_update_keeps_its_bounds(
    seed: int, replicas: int, surge: int | str, unavailable: int | str, share: float
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    world = World(make_deployment(replicas, strategy=strategy), seed)
    world.roll_out(5)
    more, fewer = bounds(world.deployment)
    for image in ("v2", "v3"):
        world.set_image(image)
        for _ in range(300):
            before = world.really_available()
            world.step()
            total = sum(found["spec"]["replicas"] for found in world.sets.values())
            assert total <= replicas + more
            assert world.really_available() >= min(before, replicas - fewer)
            if world.deployment["status"].get("updatedReplicas") == replicas and world.rng.random() < 0.3:
                break
            world.pods_move(share)
    world.roll_out(300, share)
    assert world.sizes() == {"v1": 0, "v2": 0, "v3": replicas}
    progressing = conditions.get(world.deployment, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"


def test_going_back_reuses_the_old_replica_set_under_a_new_revision() -> None:
    world = World(make_deployment())
    world.roll_out(5)
    world.set_image("v2")
    world.roll_out(20)
    assert revision_of(world.deployment) == 2
    world.set_image("v1")
    world.roll_out(20)
    assert world.sizes() == {"v1": 3, "v2": 0}
    assert len(world.created) == 2
    annotations = world.sets[world.created[0]]["metadata"]["annotations"]
    assert (annotations[REVISION], annotations[REVISION_HISTORY]) == ("3", "1")
    assert revision_of(world.deployment) == 3


def test_a_template_that_went_through_a_typed_client_is_the_same() -> None:
    world = World(make_deployment())
    container = world.deployment["spec"]["template"]["spec"]["containers"][0]
    container["tty"] = False
    world.roll_out(5)
    del container["tty"]
    world.deployment["spec"]["template"]["metadata"]["creationTimestamp"] = None
    world.roll_out(5)
    assert len(world.created) == 1
    container["tty"] = True
    world.roll_out(5)
    assert len(world.created) == 2


def test_history_is_limited() -> None:
    world = World(make_deployment(revisionHistoryLimit=2))
    for image in ("v1", "v2", "v3", "v4", "v5"):
        world.set_image(image)
        world.roll_out(20)
    assert world.sizes() == {"v3": 0, "v4": 0, "v5": 3}


def test_a_stuck_rollout_says_so() -> None:
    world = World(make_deployment(progressDeadlineSeconds=60))
    world.roll_out(5)
    world.set_image("v2")
    for _ in range(5):
        made = world.step()
        world.pods_move(broken="v2")
    assert made.look_again is not None
    world.now += timedelta(seconds=made.look_again)
    world.step()
    progressing = conditions.get(world.deployment, "Progressing")
    assert progressing is not None
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert world.sizes() == {"v1": 3, "v2": 1}
    world.set_image("v1")
    world.roll_out(5)
    assert world.sizes() == {"v1": 3, "v2": 0}
    assert conditions.is_true(world.deployment, "Progressing")


def test_scaling_in_the_middle_of_a_rollout_is_proportional() -> None:
    strategy = {"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    world = World(make_deployment(10, strategy=strategy))
    world.roll_out(5)
    world.set_image("v2")
    for _ in range(4):
        world.step()
        world.pods_move(broken="v2")
    assert world.sizes() == {"v1": 8, "v2": 5}
    world.deployment["spec"]["replicas"] = 15
    world.step()
    assert world.sizes() == {"v1": 11, "v2": 7}
    world.roll_out(40)
    assert world.sizes() == {"v1": 0, "v2": 15}


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World(make_deployment())
    world.roll_out(5)
    world.deployment["spec"]["paused"] = True
    world.set_image("v2")
    world.deployment["spec"]["replicas"] = 5
    world.roll_out(5)
    assert world.sizes() == {"v1": 5}
    progressing = conditions.get(world.deployment, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "DeploymentPaused"
    world.deployment["spec"]["paused"] = False
    world.roll_out(20)
    assert world.sizes() == {"v1": 0, "v2": 5}


def test_recreate_stops_all_before_it_starts_any() -> None:
    world = World(make_deployment(strategy={"type": "Recreate"}))
    world.roll_out(5)
    old = world.created[0]
    world.set_image("v2")
    world.step()
    assert world.sizes() == {"v1": 0}
    pod: Obj = {"metadata": {"name": "p", "ownerReferences": [{"uid": old}]}, "status": {"phase": "Running"}}
    sets = deepcopy(list(world.sets.values()))
    assert plan(world.deployment, sets, [pod], world.now).create is None
    pod["status"]["phase"] = "Failed"
    assert plan(world.deployment, sets, [pod], world.now).create is not None


@pytest.mark.parametrize(
    ("surge", "unavailable", "expected"),
    [("25%", "25%", (1, 0)), (0, 0, (0, 1)), ("50%", "50%", (2, 1)), (5, 9, (5, 3)), ("100%", 1, (3, 1))],
)
def test_bounds(surge: int | str, unavailable: int | str, expected: tuple[int, int]) -> None:
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    assert bounds(make_deployment(3, strategy=strategy)) == expected

"""Daemons in simulation: one on each machine that fits, and updates that leave few machines without one."""

from copy import deepcopy
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.daemonsets.plan import Plan, new_pod, plan
from corral.controllers.pods.history import HASH_LABEL, history
from corral.kinds.daemons import belongs, pinned, pinned_to
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH


def daemon_set(image: str = "v1", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"d": "x"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {
        "kind": "DaemonSet",
        "apiVersion": "apps/v1",
        "metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1},
        "spec": {"selector": {"matchLabels": {"d": "x"}}, "template": template, **spec},
    }


def node(name: str, *taints: tuple[str, str], **labels: str) -> Obj:
    listed = [{"key": key, "effect": effect} for key, effect in taints]
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": listed}}


class World:
    def __init__(self, made: Obj, machines: int) -> None:
        self.set = made
        self.nodes = [node(f"m{number}") for number in range(machines)]
        self.pods: dict[str, Obj] = {}
        self.revisions: list[Obj] = []
        self.now = EPOCH
        self.serial = 0

    def step(self) -> Plan:
        in_use = frozenset(pod["metadata"]["labels"][HASH_LABEL] for pod in self.pods.values())
        past = history(self.set, self.revisions, in_use)
        if past.create is not None:
            self.revisions.append(past.create)
        if past.renumber is not None:
            past.renumber[0]["revision"] = past.renumber[1]
        self.revisions = [found for found in self.revisions if found not in past.forget]
        made = plan(self.set, deepcopy(list(self.pods.values())), self.nodes, past.current, self.now)
        for pod in made.delete:
            del self.pods[pod["metadata"]["name"]]
        for machine in made.create:
            self.serial += 1
            pod = new_pod(self.set, machine, past.current)
            pod["metadata"].update(name=f"p{self.serial}", uid=f"p{self.serial}", creationTimestamp=rfc3339(self.now))
            self.pods[f"p{self.serial}"] = pod
        self.set["status"] = made.status
        return made

    def start_pods(self) -> None:
        for pod in self.pods.values():
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(self.now)}
            pod["status"] = {"phase": "Running", "conditions": [ready]}

    def images(self) -> dict[str, str]:
        return {pinned_to(pod): pod["spec"]["containers"][0]["image"] for pod in self.pods.values()}

    def available(self) -> int:
        return sum(pod.get("status", {}).get("phase") == "Running" for pod in self.pods.values())


def test_one_on_each_machine_and_on_a_new_one() -> None:
    world = World(daemon_set(), 3)
    world.step()
    world.start_pods()
    world.step()
    assert world.images() == {"m0": "v1", "m1": "v1", "m2": "v1"}
    world.nodes.append(node("m3"))
    world.step()
    world.start_pods()
    world.step()
    assert world.set["status"] == {
        "currentNumberScheduled": 4,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 4,
        "numberReady": 4,
        "updatedNumberScheduled": 4,
        "numberAvailable": 4,
        "observedGeneration": 1,
    }


@settings(max_examples=60, deadline=None)
@given(machines=st.integers(1, 8), limit=st.one_of(st.integers(1, 4), st.sampled_from(["10%", "50%"])))
def test_an_update_leaves_few_machines_without(machines: int, limit: int | str) -> None:
    made = daemon_set(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": limit}})
    world = World(made, machines)
    for _ in range(2):
        world.step()
        world.start_pods()
    world.set["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"
    allowed = limit if isinstance(limit, int) else -(-machines * int(limit[:-1]) // 100)
    for _ in range(4 * machines):
        world.step()
        assert world.available() >= machines - max(1, allowed)
        world.start_pods()
    assert set(world.images().values()) == {"v2"}
    assert len(world.pods) == machines


def test_on_delete_waits_for_a_person() -> None:
    world = World(daemon_set(updateStrategy={"type": "OnDelete"}), 2)
    world.step()
    world.start_pods()
    world.set["spec"]["template"]["spec"]["containers"][0]["image"] = "v2"
    world.step()
    assert set(world.images().values()) == {"v1"}
    del world.pods["p1"]
    world.step()
    assert set(world.images().values()) == {"v1", "v2"}


def test_a_daemon_that_ended_is_replaced_after_a_rest() -> None:
    world = World(daemon_set(), 1)
    world.step()
    world.pods["p1"]["status"] = {"phase": "Failed"}
    assert world.step().look_again == pytest.approx(10)
    world.now += timedelta(seconds=10)
    world.step()
    world.step()
    assert list(world.pods) == ["p2"]


def test_history_goes_back_under_a_new_number() -> None:
    world = World(daemon_set(), 0)
    container = world.set["spec"]["template"]["spec"]["containers"][0]
    for image in ("v1", "v2", "v1"):
        container["image"] = image
        world.step()
    assert [found["revision"] for found in world.revisions] == [3, 2]
    world.set["spec"]["revisionHistoryLimit"] = 0
    world.step()
    assert [found["revision"] for found in world.revisions] == [3]


@pytest.mark.parametrize(
    ("spec", "machine", "expected"),
    [
        ({}, node("m"), (True, True)),
        ({"nodeName": "other"}, node("m"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("m"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("m", disk="ssd"), (True, True)),
        ({}, node("m", ("mine", "NoSchedule")), (False, True)),
        ({}, node("m", ("mine", "NoExecute")), (False, False)),
        ({"tolerations": [{"operator": "Exists"}]}, node("m", ("mine", "NoExecute")), (True, True)),
        ({}, node("m", ("node.kubernetes.io/unschedulable", "NoSchedule")), (True, True)),
        ({}, node("m", ("node.kubernetes.io/network-unavailable", "NoSchedule")), (False, True)),
        ({"hostNetwork": True}, node("m", ("node.kubernetes.io/network-unavailable", "NoSchedule")), (True, True)),
        ({"affinity": pinned(None, "other")}, node("m"), (False, False)),
    ],
)
def test_where_daemons_belong(spec: Obj, machine: Obj, expected: tuple[bool, bool]) -> None:
    assert belongs(spec, machine) == expected

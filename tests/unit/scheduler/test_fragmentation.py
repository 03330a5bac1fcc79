"""Where GPU pods go, and where pods without GPUs stay away."""

import random
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from corral.kinds.accelerators import GPU_MILLI
from corral.kinds.types import Key, Obj
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Pending, assign, plan
from corral.scheduler.profile import PACKING, SPREADING, Profile
from corral.scheduler.scores.fragmentation import Fragmentation, expect, learn
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU = "nvidia.com/gpu"
MODEL = "nvidia.com/gpu.product"


def machine(name: str, gpus: int, cpu: str = "32", **labels: str) -> Obj:
    named = {MODEL: labels["model"]} if labels else {}
    return node(name, cpu=cpu, memory="256Gi", extra={GPU: str(gpus)} if gpus else {}, labels=named)


def asking(name: str, whole: int = 0, milli: int = 0, cpu: str = "4", model: str = "") -> Obj:
    requests = {GPU: str(whole)} if whole else {GPU_MILLI: str(milli)} if milli else {}
    made = pod(name, cpu=cpu, requests=requests)
    if model:
        made["spec"]["nodeSelector"] = {MODEL: model}
    return made


def cell(*machines: Obj, typical: list[Obj] | None = None) -> Snapshot:
    snapshot = Snapshot()
    for made in machines:
        snapshot.put_node(made)
    if typical is not None:
        expect(snapshot, Counter(snapshot.classify(made) for made in typical))
    return snapshot


def put(snapshot: Snapshot, made: Obj, where: str) -> None:
    snapshot.place(Key("default", made["metadata"]["name"]), snapshot.classify(made, placed=True), where)


def chosen(snapshot: Snapshot, made: Obj, profile: Profile = PACKING) -> str:
    pending = Pending(Key("default", made["metadata"]["name"]), snapshot.classify(made))
    (decision,) = plan(snapshot, [pending], NOW, random.Random(1), profile=profile)
    assert isinstance(decision, Bind)
    return decision.node


def scores(snapshot: Snapshot, made: Obj) -> dict[str, float]:
    found = Fragmentation().score(snapshot, snapshot.classify(made), slice(None), np.zeros((len(snapshot.alive), 2)))
    assert found is not None
    return {snapshot.machine(row).name: float(found[row]) for row in snapshot.rows()}


WHOLES = [asking(f"t{at}", whole=1, cpu="8") for at in range(3)]


@pytest.mark.parametrize("profile", [SPREADING, PACKING])
def test_a_part_goes_to_a_device_that_is_begun(profile: Profile) -> None:
    snapshot = cell(machine("a", 2), machine("b", 2), typical=[*WHOLES, asking("t", milli=400)])
    put(snapshot, asking("p", milli=500), "b")
    assert chosen(snapshot, asking("q", milli=400), profile) == "b"


def test_what_a_placement_costs_is_told_in_gpus() -> None:
    snapshot = cell(machine("a", 2, cpu="16"), machine("b", 2, cpu="32"), typical=WHOLES)
    put(snapshot, asking("p", milli=500, cpu="0"), "b")
    # On a, half a device is lost to the whole ones that are to come; on b it is lost already.
    assert scores(snapshot, asking("q", milli=500, cpu="0")) == {"a": 50.0, "b": 150.0}


def test_whole_machines_are_kept_for_pods_that_need_them() -> None:
    snapshot = cell(machine("a", 4), machine("b", 4), typical=[asking("t", whole=4)])
    put(snapshot, asking("p", whole=1), "b")
    assert chosen(snapshot, asking("q", whole=1)) == "b"


@pytest.mark.parametrize("profile", [SPREADING, PACKING])
def test_pods_without_gpus_leave_the_cpu_that_gpus_need(profile: Profile) -> None:
    snapshot = cell(machine("gpus", 4), machine("plain", 0, cpu="16"), machine("wide", 4, cpu="64"), typical=WHOLES)
    assert chosen(snapshot, asking("q", cpu="16"), profile) in ("plain", "wide")
    put(snapshot, asking("p", cpu="16"), "plain")
    assert chosen(snapshot, asking("q", cpu="16"), profile) == "wide"


def test_a_machine_is_judged_by_the_pods_that_may_go_there() -> None:
    typical = [asking("t1", whole=1, model="A100"), asking("t2", milli=500, model="T4")]
    snapshot = cell(machine("a", 1, model="A100"), machine("t", 1, model="T4"), typical=typical)
    assert scores(snapshot, asking("q", milli=500)) == {"a": 50.0, "t": 100.0}
    assert chosen(snapshot, asking("q", milli=500)) == "t"


def test_nothing_is_said_without_gpus_or_before_anybody_asked_for_one() -> None:
    zeros = np.zeros((16, 2))
    plain = cell(machine("a", 0))
    for made in (asking("q"), asking("q", whole=1)):
        assert Fragmentation().score(plain, plain.classify(made), slice(None), zeros) is None
    fresh = cell(machine("a", 1))
    assert Fragmentation().score(fresh, fresh.classify(asking("q")), slice(None), zeros) is None


def test_what_is_typical_is_learned_when_the_pods_have_changed_by_a_third() -> None:
    snapshot = cell(*(machine(f"n{at}", 8) for at in range(4)))
    learned = []
    for number in range(24):
        put(snapshot, asking(f"p{number}", milli=100, cpu="1"), f"n{number % 4}")
        learn(snapshot)
        learned.append(snapshot.devices.typical.learned)
    assert learned == [1, 2, 3, 4, 4, 6, 6, 8, 8, 8, 11, 11, 11, 11, 15, 15, 15, 15, 15, 20, 20, 20, 20, 20]
    for number in range(9):
        snapshot.remove(Key("default", f"p{number}"))
    learn(snapshot)
    assert snapshot.devices.typical.learned == 15
    assert sum(snapshot.devices.typical.pods.values()) == 15


def test_the_same_plan_twice_and_of_a_copy() -> None:
    snapshot = cell(*(machine(f"n{at}", 4) for at in range(6)))
    for number in range(5):
        put(snapshot, asking(f"p{number}", milli=300 + 100 * number, cpu="2"), f"n{number}")
    wanted = [asking(f"q{at}", whole=at % 2, milli=(at + 1) % 2 * 450) for at in range(12)]
    pending = [Pending(Key("default", made["metadata"]["name"]), snapshot.classify(made)) for made in wanted]
    once = plan(snapshot, pending, NOW, random.Random(3))
    assert plan(snapshot, pending, NOW, random.Random(3)) == once
    copied = snapshot.copy()
    again = [Pending(Key("default", made["metadata"]["name"]), copied.classify(made)) for made in wanted]
    assert assign(CandidateCache(copied, SPREADING), again, NOW, random.Random(3)) == once
    assert plan(snapshot, pending, NOW, random.Random(3)) == once

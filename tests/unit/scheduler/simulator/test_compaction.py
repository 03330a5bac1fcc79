"""Cell compaction: the answer holds the workload, one machine less does not, and nothing beats the volume bound."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.types import Obj, key_of
from corral.scheduler.plan import Bind, Pending, plan
from corral.scheduler.profile import PACKING, PROFILES, SPREADING, Profile
from corral.scheduler.simulator.compaction import Compaction, compact
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)

sizes = st.lists(st.tuples(st.integers(1, 4000), st.integers(1, 8)), min_size=1, max_size=30)
profiles = st.sampled_from(sorted(PROFILES.values(), key=lambda profile: profile.name))


def cell(count: int, cpu: str = "4", memory: str = "8Gi") -> list[Obj]:
    return [node(f"n{number}", cpu=cpu, memory=memory) for number in range(count)]


def pods_of(sizes: list[tuple[int, int]]) -> list[Obj]:
    return [pod(f"p{number}", cpu=f"{cpu}m", memory=f"{gib}Gi") for number, (cpu, gib) in enumerate(sizes)]


def shrink(
    machines: list[Obj], pods: list[Obj], profile: Profile = PACKING, seed: int = 1, **options: float
) -> Compaction:
    options = {"trials": 2, "pending_allowed": 0.0} | options
    return compact(machines, pods, profile=profile, rng=random.Random(seed), **options)  # type: ignore[arg-type]


def all_fit(machines: list[Obj], pods: list[Obj], profile: Profile) -> bool:
    snapshot = Snapshot()
    for machine in machines:
        snapshot.put_node(machine)
    pending = [Pending(key_of(one), snapshot.classify(one), 0, order) for order, one in enumerate(pods)]
    decisions = plan(snapshot, pending, NOW, random.Random(3), profile=profile)
    return all(isinstance(decision, Bind) for decision in decisions)


# As much memory as cpu: machines that score alike are alike then, and ties by lot change nothing.
even = st.lists(st.integers(1, 8).map(lambda gib: (gib * 500, gib)), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(even, profiles)
def test_equal_machines_the_answer_fits_and_one_less_does_not(sizes: list[tuple[int, int]], profile: Profile) -> None:
    pods = pods_of(sizes)
    found = shrink(cell(5), pods, profile)
    assert set(found.needed) == {found.result}
    assert all_fit(cell(found.result), pods, profile)
    assert found.result == 1 or not all_fit(cell(found.result - 1), pods, profile)


@settings(max_examples=50, deadline=None)
@given(sizes, profiles, st.integers(0, 9))
def test_no_trial_beats_its_volume_bound(sizes: list[tuple[int, int]], profile: Profile, seed: int) -> None:
    machines = cell(4) + [node(f"big{number}", cpu="8", memory="9Gi") for number in range(4)]
    found = shrink(machines, pods_of(sizes), profile, seed)
    assert all(bound <= needed for bound, needed in zip(found.bounds, found.needed, strict=True))
    assert found.bound <= found.result
    assert found == shrink(machines, pods_of(sizes), profile, seed)


def test_a_cell_that_is_too_small_is_cloned() -> None:
    apart = {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}
        ]
    }
    pods = [pod(f"p{number}", cpu="1", labels={"app": "a"}, affinity={"podAntiAffinity": apart}) for number in range(7)]
    assert shrink(cell(2), pods).needed == (7, 7)


def test_the_more_important_go_first_and_a_few_may_stay_pending() -> None:
    pods = [pod(f"low{number}", cpu="2") for number in range(5)]
    pods += [pod(f"high{number}", cpu="4", priority=10) for number in range(5)]
    assert shrink(cell(20), pods, SPREADING).result == 8
    assert shrink(cell(20), pods, SPREADING, pending_allowed=0.1).result == 7


def test_only_some_machines_will_do() -> None:
    machines = [*cell(9), node("special", cpu="4", labels={"kind": "special"})]
    pods = [pod("picky", cpu="4", nodeSelector={"kind": "special"})]
    assert all(1 <= count <= 10 for count in shrink(machines, pods, trials=11).needed)
    assert len(set(shrink(machines, pods, trials=11).needed)) > 1


def test_the_result_is_the_90th_percentile() -> None:
    assert Compaction(tuple(range(11, 0, -1)), (1,) * 11).result == 10
    assert Compaction((4,), (3,)).result == 4
    assert Compaction((4,), (3,)).bound == 3


def test_pods_that_belong_to_a_machine_are_left_out() -> None:
    daemon = pod("daemon", cpu="4")
    daemon["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "uid": "u", "controller": True}]
    assert shrink(cell(3), [daemon, pod("p", cpu="4")]).result == 1


def test_what_fits_nowhere_is_named() -> None:
    with pytest.raises(ValueError, match=r"default/giant.*Insufficient cpu.*leave such pods out"):
        shrink(cell(3), [pod("giant", cpu="5")])
    with pytest.raises(ValueError, match="no nodes available"):
        shrink([], [pod("p", cpu="1")])


def test_progress_is_told_after_each_trial() -> None:
    told: list[tuple[int, int]] = []
    compact(
        cell(2),
        [pod("p", cpu="1")],
        profile=PACKING,
        rng=random.Random(1),
        trials=3,
        progress=lambda done, trials: told.append((done, trials)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]

"""How full machines are, and what is stranded, against a plain reckoning."""

import random
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.types import Key
from corral.scheduler.podclass import PodClass
from corral.scheduler.simulator.usage import GPU, ResourceUse, machines_in_use, measure, shares
from corral.scheduler.snapshot import Snapshot
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def by_name(uses: list[ResourceUse]) -> dict[str, ResourceUse]:
    return {use.name: use for use in uses}


def test_the_empty_cell_has_nothing() -> None:
    assert measure(Snapshot(), []) == []
    assert machines_in_use(Snapshot()) == 0


def test_what_is_free_where_the_load_does_not_fit_is_stranded() -> None:
    snapshot = Snapshot()
    for name in ("a", "b"):
        snapshot.put_node(node(name, cpu="4", memory="4Gi"))
    big = snapshot.classify(pod("big", cpu="3", memory="1Gi"))
    small = snapshot.classify(pod("small", cpu="1", memory="1Gi"))
    snapshot.place(Key("default", "big"), big, "a")
    uses = by_name(measure(snapshot, [(big, 1), (small, 3)]))
    assert uses["cpu"] == ResourceUse("cpu", 8000, 3000, 250)  # a's last core, for one pod in four
    assert uses["memory"].stranded == round(0.25 * (3 << 30))
    assert machines_in_use(snapshot) == 1
    assert sorted(shares(snapshot, "cpu").tolist()) == [0.0, 0.75]


def test_whole_gpus_and_parts_of_them_are_one_resource() -> None:
    snapshot = Snapshot()
    snapshot.put_node(node("a", extra={"nvidia.com/gpu": "2"}))
    part = snapshot.classify(pod("part", requests={"corral.dev/gpu-milli": "600"}))
    whole = snapshot.classify(pod("whole", requests={"nvidia.com/gpu": "2"}))
    for name in ("p", "q"):
        snapshot.place(Key("default", name), part, "a")
    uses = by_name(measure(snapshot, [(part, 1), (whole, 1)]))
    assert uses[GPU] == ResourceUse(GPU, 2000, 1200, 800)
    assert not {"nvidia.com/gpu", "corral.dev/gpu-milli"} & uses.keys()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 8), min_size=1, max_size=6), st.lists(st.integers(1, 4), max_size=12), st.integers())
def test_any_cell_agrees_with_the_definition(machines: list[int], sizes: list[int], seed: int) -> None:
    snapshot, rng = Snapshot(), random.Random(seed)
    free = dict.fromkeys(range(len(machines)), 0)
    for number, cores in enumerate(machines):
        snapshot.put_node(node(f"n{number}", cpu=str(cores), memory="1Ti"))
        free[number] = cores
    load: list[tuple[PodClass, int]] = []
    for number, size in enumerate(sizes):
        pod_class = snapshot.classify(pod(f"p{number}", cpu=str(size)))
        load.append((pod_class, 1))
        where = rng.randrange(len(machines))
        if free[where] >= size:
            free[where] -= size
            snapshot.place(Key("default", f"p{number}"), pod_class, f"n{where}")
    found = by_name(measure(snapshot, load))["cpu"]
    lost = [sum(left for left in free.values() if left < size) for size in sizes]
    assert found.used == 1000 * (sum(machines) - sum(free.values()))
    assert found.stranded == round(1000 * sum(lost) / max(len(sizes), 1))

"""Image locality: kube-scheduler's figures, and that only those who want an image notice that it moved."""

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.kinds.types import Key, Obj
from corral.scheduler.images import Images, canonical
from corral.scheduler.plan import Bind, Pending, plan
from corral.scheduler.scores.images import ImageLocality
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.trim import trim_node
from corral.testing.scheduling import node, pod

MIB = 1 << 20
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def having(name: str, **images: int) -> Obj:
    """A Node with images (by repository) of so many MiB."""
    machine = node(name)
    machine["status"]["images"] = [
        {"names": [f"registry.example.com/{image}:1", f"registry.example.com/{image}@sha256:{'0' * 64}"],
         "sizeBytes": size * MIB}
        for image, size in images.items()
    ]  # fmt: skip
    return machine


def running(*images: str, init: tuple[str, ...] = ()) -> Obj:
    wanted = pod("p")
    wanted["spec"]["containers"] = [{"name": name, "image": f"registry.example.com/{name}:1"} for name in images]
    wanted["spec"]["initContainers"] = [{"name": name, "image": f"registry.example.com/{name}:1"} for name in init]
    return wanted


def scores(machines: list[Obj], wanted: Obj) -> dict[str, int] | None:
    snapshot = Snapshot()
    for machine in machines:
        snapshot.put_node(machine)
    pod_class = snapshot.classify(wanted)
    found = ImageLocality().score(snapshot, pod_class, snapshot.load[:, 0])
    return None if found is None else {snapshot.machine(row).name: int(found[row]) for row in snapshot.rows()}


@pytest.mark.parametrize(
    ("machines", "wanted", "expected"),
    [
        # By hand, from the formula: 100 * (size * share of machines - 23 MiB) / (1000 MiB * containers - 23 MiB).
        ([having("a", x=40, y=300), having("b", y=250, x=10)], running("z"), None),
        ([having("a", x=250), having("b")], running("x"), {"a": 10, "b": 0}),
        ([having("a", x=250), having("b", x=250)], running("x"), {"a": 23, "b": 23}),
        ([having("a", x=40), having("b")], running("x"), None),
        ([having("a", x=2000), having("b", x=2000)], running("x"), {"a": 100, "b": 100}),
        ([having("a", x=2000, y=2000), having("b")], running("x", "y"), {"a": 100, "b": 0}),
        ([having("a", x=2000), having("b")], running("x", "y"), {"a": 49, "b": 0}),
        ([having("a", x=2000), having("b")], running("y", init=("x",)), {"a": 49, "b": 0}),
        ([having("a", x=300), having("b"), having("c")], running("x", "x"), {"a": 8, "b": 0, "c": 0}),
    ],
)
def test_the_figures(machines: list[Obj], wanted: Obj, expected: dict[str, int] | None) -> None:
    assert scores(machines, wanted) == expected
    assert scores([trim_node(machine) for machine in machines], wanted) == expected


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("team/web", "docker.io/team/web:latest"),
        ("localhost/web", "localhost/web:latest"),
        ("registry.example.com:5000/web", "registry.example.com:5000/web:latest"),
        ("registry.example.com/web@sha256:00", "registry.example.com/web@sha256:00"),
    ],
)
def test_full_names(name: str, full: str) -> None:
    assert canonical(name) == full


def test_a_pod_goes_where_its_image_is() -> None:
    snapshot = Snapshot()
    for number in range(8):
        snapshot.put_node(having(f"m{number}", **({"x": 4000} if number == 5 else {})))
    wanted = Pending(Key("default", "p"), snapshot.classify(running("x")))
    for seed in range(5):
        assert plan(snapshot, [wanted], NOW, random.Random(seed)) == [Bind(wanted.key, "m5")]


def test_pods_of_the_machines_own_image_are_of_one_class() -> None:
    snapshot = Snapshot()
    assert snapshot.classify(pod("p")).images == ()
    assert snapshot.classify(running("x")) is not snapshot.classify(running("y"))
    assert snapshot.classify(running("x")) is snapshot.classify(running("x"))


def test_an_image_that_moves_disturbs_only_those_who_want_it() -> None:
    snapshot = Snapshot()
    snapshot.put_node(having("a", x=500))
    snapshot.put_node(having("b"))
    shape, used, total = snapshot.shape, snapshot.used.end, snapshot.load[:, 0]
    x, y = snapshot.classify(running("x")), snapshot.classify(running("y"))
    before = ImageLocality().score(snapshot, x, total)
    assert ImageLocality().score(snapshot, y, total) is None
    snapshot.put_node(having("b", y=500))
    assert (snapshot.shape, snapshot.used.end) == (shape, used)
    assert ImageLocality().score(snapshot, x, total) is before
    assert ImageLocality().score(snapshot, y, total) is not None
    snapshot.remove_node("a")
    assert ImageLocality().score(snapshot, x, total) is None


SIZES = {"x": 100, "y": 400, "z": 900}
REPORTS = st.lists(st.tuples(st.integers(0, 20), st.sets(st.sampled_from("xyz"))), max_size=20)


def told(images: Images, name: str) -> list[float]:
    found = images.score((f"registry.example.com/{name}:1",), 1, 21, 24)
    return [] if found is None else found.tolist()


@given(REPORTS)
def test_reports_in_any_order_come_to_the_same_as_the_last_ones(reports: list[tuple[int, set[str]]]) -> None:
    moved, fresh = Images(), Images()
    for row, names in reports:
        moved.set(row, having("m", **{name: SIZES[name] for name in names})["status"]["images"])
    last = dict(reports)
    for row, names in sorted(last.items()):
        fresh.set(row, having("m", **{name: SIZES[name] for name in names})["status"]["images"])
    expected = {name: told(fresh, name) for name in SIZES}
    assert {name: told(moved, name) for name in SIZES} == expected
    copied = moved.copy()
    for row in last:
        moved.set(row, ())
    assert not any(told(moved, name) for name in SIZES)
    assert {name: told(copied, name) for name in SIZES} == expected

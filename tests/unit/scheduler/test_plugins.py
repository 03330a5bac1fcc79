"""Rules of a user's own: how they are found, what they may do, and what happens when they fail."""

import logging
import random
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.base.errors import CorralError
from corral.kinds.types import Obj, key_of
from corral.scheduler import plugins
from corral.scheduler.filters import RowFilter
from corral.scheduler.plan import Bind, Decision, Pending, Refuse, plan
from corral.scheduler.plugins import FilterGuard, FilterPlugin, OrderGuard, Plugins, ScoreGuard, ScorePlugin
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import SPREADING, Profile, by_priority
from corral.scheduler.queue import PodQueue
from corral.scheduler.snapshot import Rows, Snapshot
from corral.scheduler.why import explain
from corral.testing.scheduling import node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Same(FilterPlugin):
    """The machine's label `color` must be the pod's."""

    reason = "node(s) had another color"

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> NDArray[np.bool_]:
        cells, _ = snapshot.labels.cells("color")
        colors = [snapshot.machine(row).labels.get("color") for row in snapshot.rows()]
        wanted = np.zeros(len(cells), dtype=np.bool_)
        wanted[list(snapshot.rows())] = [color == pod.labels.get("color") for color in colors]
        return wanted[rows]


class Odd(ScorePlugin):
    """The name with the highest last digit."""

    weight = 10

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        digits = np.zeros(len(snapshot.alive))
        for row in snapshot.rows():
            digits[row] = int(snapshot.machine(row).name[-1]) * 10
        return digits[rows]


class Failing(FilterPlugin, ScorePlugin):
    """Does what it is told to."""

    def __init__(self, act: Callable[[PodClass, int], Any]) -> None:
        self.act = act
        self.asked = 0

    def fits(self, snapshot: Snapshot, pod: PodClass, rows: Rows) -> Any:
        self.asked += 1
        return self.act(pod, len(snapshot.alive[rows]))

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> Any:
        self.asked += 1
        return self.act(pod, len(share))


def snapshot_of(*nodes: Obj) -> Snapshot:
    snapshot = Snapshot()
    for one in nodes:
        snapshot.put_node(one)
    return snapshot


def with_rules(*filters: FilterPlugin, scores: tuple[ScorePlugin, ...] = ()) -> Profile:
    guards = [ScoreGuard("'s' of test 1", score) for score in scores]
    rules: list[RowFilter] = [FilterGuard("'f' of test 1", rule) for rule in filters]
    weighed = [(guard, float(score.weight)) for guard, score in zip(guards, scores, strict=True)]
    return Plugins([*rules, *guards], weighed).extend(SPREADING)


def decide(snapshot: Snapshot, profile: Profile, *pods: Obj) -> list[Decision]:
    pending = [
        Pending(key_of(one), snapshot.classify(one), one["spec"].get("priority", 0), number)
        for number, one in enumerate(pods)
    ]
    return list(plan(snapshot, pending, NOW, random.Random(1), profile=profile))


def message(decision: Decision) -> str:
    assert isinstance(decision, Refuse)
    return decision.message


def nobody(count: int) -> str:
    return f"preemption: 0/{count} nodes are available: {count} No preemption victims found for incoming pod."


def test_a_filter_refuses_and_explains_in_its_own_words() -> None:
    snapshot = snapshot_of(node("n1", labels={"color": "red"}), node("n2", labels={"color": "blue"}), node("n3"))
    profile = with_rules(Same())
    red, green = pod("p", labels={"color": "red"}), pod("q", labels={"color": "green"})
    first, second = decide(snapshot, profile, red, green)
    assert first == Bind(key_of(red), "n1")
    assert message(second) == "0/3 nodes are available: 3 node(s) had another color. " + nobody(3)
    story = explain(snapshot, green, scheduler="s", profile=profile)
    assert [machine["reasons"] for machine in story["machines"]] == [["node(s) had another color"]] * 3


def test_pods_that_differ_in_labels_only_are_judged_apart() -> None:
    snapshot = snapshot_of(node("n1", labels={"color": "red"}), node("n2", labels={"color": "blue"}))
    pods = [pod(f"p{number}", labels={"color": color}) for number, color in enumerate(["red", "blue", "red"])]
    decisions = decide(snapshot, with_rules(Same()), *pods)
    assert [getattr(decision, "node", "") for decision in decisions] == ["n1", "n2", "n1"]


def test_a_score_weighs_in() -> None:
    snapshot = snapshot_of(node("n1", cpu="100"), node("n2", cpu="10"), node("n9", cpu="5"))
    (decision,) = decide(snapshot, with_rules(scores=(Odd(),)), pod("p", cpu="1"))
    assert decision == Bind(decision.pod, "n9")


def boom(pod: PodClass, count: int) -> Any:
    if "bad" in pod.labels:
        raise ZeroDivisionError("by zero")
    return np.ones(count, dtype=np.bool_)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (boom, "ZeroDivisionError: by zero"),
        (lambda pod, count: [True], r"ValueError: it gave the shape \(1,\) for 16 rows"),
        (lambda pod, count: np.ones(count), "TypeError: it gave float64, not truth values"),
    ],
)
def test_where_a_filter_fails_pods_are_refused_in_its_name(
    act: Callable[[PodClass, int], Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot, rule = snapshot_of(node("n1"), node("n2")), Failing(act)
    profile = with_rules(rule)
    bad = pod("bad", labels={"bad": "yes"})
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            (refused,) = decide(snapshot, profile, bad)
    said = message(refused)
    assert len(caplog.records) == 1
    assert said.startswith("0/2 nodes are available: 2 node(s) on which the filter 'f' of test 1 failed: ")
    assert re.search(words, said)
    assert rule.asked == 1
    story = explain(snapshot, bad, scheduler="s", profile=profile)
    assert "the filter 'f' of test 1 failed" in story["machines"][0]["reasons"][0]
    snapshot.put_node(node("n3"))
    decide(snapshot, profile, bad)
    assert rule.asked == 2, "a machine changed: it is asked again"


def test_other_pods_do_not_suffer_from_a_failure() -> None:
    snapshot = snapshot_of(node("n1"))
    bad, good = decide(snapshot, with_rules(Failing(boom)), pod("bad", labels={"bad": "yes"}), pod("good"))
    assert isinstance(bad, Refuse)
    assert isinstance(good, Bind)


@pytest.mark.parametrize(
    ("act", "words"),
    [(boom, "ZeroDivisionError"), (lambda pod, count: np.full(count, np.nan), "a score that is not finite")],
)
def test_where_a_score_fails_pods_are_refused_in_its_name(act: Callable[[PodClass, int], Any], words: str) -> None:
    snapshot = snapshot_of(node("n1"), node("n2"))
    profile = with_rules(scores=(Failing(act),))
    for _ in range(2):
        (refused,) = decide(snapshot, profile, pod("bad", labels={"bad": "yes"}))
        assert "2 node(s) on which the score 's' of test 1 failed: " in message(refused)
        assert words in message(refused)


def test_victims_are_found_under_the_rules_of_a_user() -> None:
    snapshot = snapshot_of(node("n1", cpu="1", labels={"color": "red"}), node("n2", cpu="1"))
    for name in ("n1", "n2"):
        there = pod(f"low-{name}", cpu="1", node_name=name)
        snapshot.place(key_of(there), snapshot.classify(there, placed=True), name)
    (decision,) = decide(snapshot, with_rules(Same()), pod("high", cpu="1", priority=9, labels={"color": "red"}))
    assert getattr(decision, "victims", ()) == (key_of(pod("low-n1")),)


def test_an_order_of_ones_own_decides_who_is_first() -> None:
    order = OrderGuard("'o' of test 1", lambda pod: (float(pod.pod_class.labels["seconds"]),))
    snapshot, queue = Snapshot(), PodQueue(order=order)
    for name, seconds in (("long", "900"), ("short", "5"), ("middle", "60")):
        one = pod(name, labels={"seconds": seconds})
        queue.add(key_of(one), snapshot.classify(one), 0)
    assert [pending.key.name for pending in queue.take(9, 0.0)] == ["short", "middle", "long"]
    small = snapshot_of(node("n1", cpu="1"))
    profile = Plugins(order=order).extend(SPREADING)
    first, second = decide(
        small, profile, pod("a", cpu="1", labels={"seconds": "9"}), pod("b", cpu="1", labels={"seconds": "1"})
    )
    assert (first.pod.name, second.pod.name) == ("b", "a")
    assert isinstance(first, Bind)


@pytest.mark.parametrize("place", [lambda pod: 1 / 0, lambda pod: float("nan"), lambda pod: ("a",)])
def test_a_failing_order_leaves_pods_where_their_priority_puts_them(
    place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = Snapshot()
    pending = Pending(key_of(pod("p")), snapshot.classify(pod("p")), 7, 3)
    with caplog.at_level(logging.ERROR):
        order = OrderGuard("'o' of test 1", place)
        assert order(pending) == order(pending) == by_priority(pending)
    assert len(caplog.records) == 1
    assert "the queue order 'o' of test 1 failed" in caplog.text


def install(monkeypatch: pytest.MonkeyPatch, points: Mapping[str, list[tuple[str, str]]]) -> None:
    dist = SimpleNamespace(name="corral-mine", version="2.1")

    def entry_points(*, group: str) -> list[EntryPoint]:
        found = [EntryPoint(name, value, group) for name, value in points.get(group, ())]
        for point in found:
            vars(point)["dist"] = dist
        return found

    monkeypatch.setattr(plugins, "entry_points", entry_points)


THIS = "test_plugins_target"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module that entry points can name."""
    found = SimpleNamespace(
        Same=Same, Odd=Odd, mine=Profile("x", rows=((Odd(), 1.0),), row_filters=(Same(),)), shortest=by_priority
    )
    monkeypatch.setitem(sys.modules, THIS, found)
    return found


def test_installed_rules_go_into_the_profiles(monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace) -> None:
    install(
        monkeypatch,
        {
            plugins.FILTERS: [("same", f"{THIS}:Same")],
            plugins.SCORES: [("odd", f"{THIS}:Odd")],
            plugins.ORDERS: [("short", f"{THIS}:shortest")],
            plugins.PROFILE_GROUP: [("mine", f"{THIS}:mine")],
        },
    )
    loaded = plugins.load()
    assert list(loaded.titles) == [
        "filter 'same' of corral-mine 2.1",
        "score 'odd' of corral-mine 2.1",
        "order 'short' of corral-mine 2.1",
        "profile 'mine' of corral-mine 2.1",
    ]
    profiles = loaded.by_name()
    assert {"spreading", "packing", "mine"} <= set(profiles)
    snapshot = snapshot_of(node("n1", labels={"color": "red"}), node("n2", labels={"color": "red"}), node("n9"))
    for name in ("spreading", "mine"):
        (decision,) = decide(snapshot, profiles[name], pod("p", labels={"color": "red"}))
        assert decision == Bind(decision.pod, "n2")
    assert profiles["mine"].name == "mine"


def test_without_packages_profiles_are_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {})
    assert plugins.load().by_name()["spreading"] == SPREADING


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({plugins.FILTERS: [("f", "no_such_module:x")]}, "ModuleNotFoundError: No module named 'no_such_module'"),
        (
            {plugins.FILTERS: [("f", f"{THIS}:Odd")]},
            "it is of the type Odd, not a corral.scheduler.plugins.Fil",
        ),
        ({plugins.SCORES: [("f", f"{THIS}:nothing")]}, "AttributeError"),
        ({plugins.PROFILE_GROUP: [("f", f"{THIS}:shortest")]}, "it is of the type function, not a corral"),
        ({plugins.PROFILE_GROUP: [("packing", f"{THIS}:mine")]}, "a profile that comes with Corral has the same name"),
        ({plugins.FILTERS: [("f", f"{THIS}:Same"), ("f", f"{THIS}:Same")]}, "'f' of corral-mine 2.1 has the same name"),
        ({plugins.ORDERS: [("a", f"{THIS}:shortest"), ("b", f"{THIS}:shortest")]}, "cannot order one queue by 'a'"),
        ({plugins.ORDERS: [("a", f"{THIS}:mine")]}, "it is of the type Profile, not a function"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, module: SimpleNamespace, points: dict[str, list[tuple[str, str]]], words: str
) -> None:
    install(monkeypatch, points)
    with pytest.raises(CorralError) as refused:
        plugins.load()
    assert words in refused.value.message
    assert "corral-mine 2.1" in refused.value.message
    assert refused.value.remedy

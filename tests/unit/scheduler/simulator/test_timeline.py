"""Pods that come and go: against a reckoning by hand, and never more on a machine than it has."""

import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.types import Obj, key_of
from corral.scheduler.profile import PACKING
from corral.scheduler.simulator.cell import SimulatedCell
from corral.scheduler.simulator.scenario import Scenario, Span
from corral.scheduler.simulator.timeline import Timeline, play
from corral.testing.scheduling import node
from corral.testing.scheduling import pod as orphan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROD, BATCH = 200_000_000, 100_000_000


def pod(name: str, **fields: Any) -> Obj:
    """A pod that is made anew when it is gone."""
    made = orphan(name, **fields)
    made["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": name, "controller": True}]
    return made


def played(machines: list[Obj], pods: list[tuple[Obj, float, float | None]]) -> Timeline:
    scenario = Scenario(machines, [one for one, _, _ in pods])
    spans = {key_of(one): Span(start, duration) for one, start, duration in pods}
    return play(SimulatedCell(scenario, PACKING), spans, NOW, random.Random(1))


def test_two_pods_take_turns_on_one_machine() -> None:
    line = played([node("a", cpu="1")], [(pod("p", cpu="1"), 0, 10), (pod("q", cpu="1"), 4, 5)])
    assert line.times == [0, 4, 10, 15]
    assert line.used["cpu"] == [1000, 1000, 1000, 0]
    assert line.waiting == [0, 1, 0, 0]
    (free,) = line.waits
    assert (free.pods, free.ran, free.median, free.longest) == (2, 2, 0, 6)
    assert line.mean("cpu") == 1000


def test_who_is_pushed_out_starts_over() -> None:
    line = played(
        [node("a", cpu="1")],
        [(pod("low", cpu="1", priority=BATCH), 0, 10), (pod("high", cpu="1", priority=PROD), 6, 2)],
    )
    assert line.times == [0, 6, 8, 10, 18]  # at 10 the first start of `low` would have been over
    production, batch = line.waits
    assert (production.longest, batch.longest, batch.pushed_out) == (0, 2, 1)
    assert line.used["cpu"][-1] == 0


def test_what_never_fits_and_what_never_ends() -> None:
    line = played([node("a", cpu="1")], [(pod("big", cpu="2"), 1, 5), (pod("endless", cpu="1"), 3, None)])
    assert line.waiting[-1] == 1
    assert line.used["cpu"][-1] == 1000
    assert [refusal.reason for refusal in line.refusals] == ["0/1 nodes are available: 1 Insufficient cpu."]
    assert [(row.pods, row.ran) for row in line.waits] == [(2, 1)]


def test_nothing_to_play() -> None:
    line = played([node("a")], [])
    assert (line.times, line.span, line.waits, line.mean("cpu")) == ([], 0, [], 0)


jobs = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 20), st.integers(0, 15), st.sampled_from([0, BATCH, PROD])), max_size=25
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), jobs)
def test_every_pod_that_fits_an_empty_machine_runs_in_the_end(
    machines: list[int], drawn: list[tuple[int, int, int, int]]
) -> None:
    pods: list[tuple[Obj, float, float | None]] = [
        (pod(f"p{number:02}", cpu=str(cpu), priority=band), start, duration)
        for number, (cpu, start, duration, band) in enumerate(drawn)
    ]
    line = played([node(f"n{number}", cpu=str(cores)) for number, cores in enumerate(machines)], pods)
    assert sum(row.ran for row in line.waits) == sum(cpu <= max(machines) for cpu, *_ in drawn)
    assert all(0 <= amount <= line.capacity["cpu"] for amount in line.used["cpu"])
    assert not drawn or line.used["cpu"][-1] == 0
    assert list(line.times) == sorted(set(line.times))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), min_size=1, max_size=20))
def test_one_server_agrees_with_lindleys_recursion(drawn: list[tuple[int, int]]) -> None:
    ranked = sorted(drawn)
    line = played([node("a", cpu="1")], [(pod(f"p{n:02}", cpu="1"), *times) for n, times in enumerate(ranked)])
    free, waits = 0, []
    for start, duration in ranked:
        waits.append(max(0, free - start))
        free = max(free, start) + duration
    assert line.waits[0].longest == max(waits)
    assert line.times[-1] == free

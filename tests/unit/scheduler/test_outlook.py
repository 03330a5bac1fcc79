"""What free GPUs are worth, against a play of the same streams pod by pod."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.scheduler.outlook import LENGTH, STREAMS, Demand, Outlook, States

GIB = 1 << 30
ANYWHERE = np.ones((1, 1), dtype=np.bool_)


def states(*machines: tuple[int, int, Sequence[int]], group: int = 0) -> States:
    """`cpu` cores, memory in GiB, free thousandths."""
    cpu, memory, free = zip(*machines, strict=True)
    return States(
        np.array(cpu) * 1000,
        np.array(memory) * GIB,
        np.array(free, dtype=np.int16),
        np.full(len(machines), group, dtype=np.int16),
    )


def by_hand(outlook: Outlook, state: States) -> float:
    """One machine, one stream and one pod after the other."""
    state, gained = state.coarse(), 0
    for stream in range(STREAMS):
        cpu, memory, free = int(state.cpu[0]), int(state.memory[0]), state.free[0].tolist()
        for moment in range(LENGTH):
            demand = outlook.demands[outlook.arrivals[stream, moment]]
            if demand.cpu > cpu or demand.memory > memory << 20:
                continue
            if demand.milli:
                fitting = [index for index, left in enumerate(free) if left >= demand.milli]
                if not fitting:
                    continue
                free[min(fitting, key=lambda index: free[index])] -= demand.milli
            elif free.count(1000) >= demand.whole:
                for _ in range(demand.whole):
                    free[free.index(1000)] = 0
            else:
                continue
            cpu, memory = cpu - demand.cpu, memory - (demand.memory >> 20)
            gained += demand.whole * 1000 + demand.milli
    return gained / STREAMS


demands = st.builds(
    Demand,
    st.sampled_from([0, 500, 2000, 8000, 12000]),
    st.sampled_from([0, GIB, 16 * GIB]),
    st.sampled_from([1, 2, 4]),
    st.just(0),
) | st.builds(
    Demand,
    st.sampled_from([0, 1000, 6000]),
    st.sampled_from([0, 4 * GIB]),
    st.just(0),
    st.sampled_from([100, 470, 810]),
)
machines = st.tuples(st.integers(0, 31), st.integers(0, 31), st.lists(st.integers(0, 10), min_size=4, max_size=4))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(demands, st.integers(1, 9), min_size=1, max_size=6), st.lists(machines, min_size=1, max_size=4))
def test_all_machines_at_once_are_as_one_by_one(
    mix: dict[Demand, float], some: list[tuple[int, int, list[int]]]
) -> None:
    outlook = Outlook(mix, ANYWHERE)
    at_once = [(cpu, memory, [100 * tenth for tenth in free]) for cpu, memory, free in some]
    expected = [by_hand(outlook, states(machine)) for machine in at_once]
    assert outlook.worth(states(*at_once)).tolist() == pytest.approx(expected)
    assert outlook.worth(states(*at_once)).tolist() == pytest.approx(expected), "from memory"


def test_gpus_without_cpu_are_worth_nothing() -> None:
    outlook = Outlook({Demand(8000, GIB, 1, 0): 1.0}, ANYWHERE)
    worth = outlook.worth(states((31, 31, [1000] * 4), (15, 31, [1000] * 4), (4, 31, [1000] * 4), (31, 31, [999] * 4)))
    assert worth.tolist() == [3000, 1000, 0, 0]


def test_a_machine_is_worth_what_the_pods_that_it_takes_would_get() -> None:
    anywhere, elsewhere = Demand(1000, 0, 0, 300, 0), Demand(1000, 0, 1, 0, 1)
    outlook = Outlook({anywhere: 1.0, elsewhere: 1.0}, np.array([[True, True], [True, False]]))
    machine = (16, 16, [1000])
    both, parts = outlook.worth(states(machine)), outlook.worth(states(machine, group=1))
    assert parts.tolist() == [900]
    assert both[0] > 900


def test_the_rare_demands_of_very_many_do_not_count() -> None:
    mix = {Demand(1000 + number, 0, 0, 500): 1.0 for number in range(300)} | {Demand(100, 0, 1, 0): 5.0}
    outlook = Outlook(mix, ANYWHERE)
    assert len(outlook.demands) == 256
    assert Demand(100, 0, 1, 0) in outlook.demands

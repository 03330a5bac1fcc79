"""A plan of faults is the same for the same seed, and asks for no more than the cell promises to bear."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ...cell.chaos.plan import MACHINE_SORTS, MEMBER_SORTS, SERVER_SORTS, Fault, Inventory, Sort, plan

FLEET = Inventory(("m1", "m2", "m3", "m4"), ("s1", "s2"), ("e1", "e2", "e3"))
seeds = st.integers(0, 2**32)
inventories = st.builds(
    Inventory,
    st.lists(st.sampled_from(["m1", "m2", "m3", "m4", "m5"]), unique=True),
    st.lists(st.sampled_from(["s1", "s2", "s3"]), unique=True),
    st.lists(st.sampled_from(["e1", "e2", "e3", "e4", "e5"]), unique=True),
    st.frozensets(st.sampled_from(list(Sort))),
    st.integers(0, 3),
    st.integers(0, 1),
)


def at_once(faults: list[Fault], sorts: frozenset[Sort]) -> int:
    """The most targets of a tier that are faulty at the same moment."""
    tier = [fault for fault in faults if fault.sort in sorts]
    return max((sum(one.at <= fault.at < one.ends for one in tier) for fault in tier), default=0)


@given(inventories, seeds, st.floats(0, 300), st.floats(0.5, 20))
def test_no_more_fails_than_the_cell_bears(inventory: Inventory, seed: int, seconds: float, pace: float) -> None:
    faults = plan(inventory, seconds, pace, random.Random(seed))
    assert at_once(faults, MACHINE_SORTS) <= min(inventory.most_machines, max(0, len(inventory.machines) - 1))
    assert at_once(faults, SERVER_SORTS) <= max(0, len(inventory.servers) - inventory.least_servers)
    assert at_once(faults, MEMBER_SORTS) <= max(0, (len(inventory.members) - 1) // 2)
    assert {fault.sort for fault in faults} <= inventory.sorts
    for fault in faults:
        assert fault.target in inventory.targets(fault.sort)
        assert fault.lasts > 0
        assert fault.ends <= seconds
        assert not any(
            one.target == fault.target and one.at < fault.ends and fault.at < one.ends
            for one in faults
            if one is not fault
        )


@given(seeds)
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    assert plan(FLEET, 120, 4, random.Random(seed)) == plan(FLEET, 120, 4, random.Random(seed))


@given(seeds)
def test_every_sort_comes_before_any_comes_again(seed: int) -> None:
    faults = plan(FLEET, 600, 5, random.Random(seed))
    counted = Counter(fault.sort for fault in faults)
    assert set(counted) == set(Sort)
    # The last round is cut short, and what would end too late is left out.
    assert max(counted.values()) - min(counted.values()) <= 2


def test_two_seeds_differ_and_a_fault_says_what_it_is() -> None:
    assert plan(FLEET, 60, 4, random.Random(1)) != plan(FLEET, 60, 4, random.Random(2))
    assert str(Fault(1.5, Sort.SHIFT_AGENT_CLOCK, "m1", 3.0, -40.0)) == (
        "   1.5 s: shift agent clock m1 by -40 s for 3.0 s"
    )

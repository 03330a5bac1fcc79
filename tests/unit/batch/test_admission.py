"""Who gets quota: examples from Kueue's documentation (concepts/cluster_queue, preemption, fair_sharing)."""

from datetime import UTC, datetime, timedelta
from typing import Any

from corral.batch.admission import admit
from corral.batch.model import Cohort, Decisions, Flavor, FlavorResource, Group, PodSet, Preemption, Queue, Quota, State
from corral.kinds.taints import Taint, Toleration
from corral.kinds.types import Key

from .states import admitted, holds, preempted, queue, reasons, state, waits

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def decide(*parts: object) -> Decisions:
    return admit(state(*parts), NOW)


def test_what_fits_is_admitted_in_order_and_the_rest_waits_with_its_reason() -> None:
    made = decide(queue("q", 9), *(waits(f"job-{at}", "q", 3, at=at) for at in range(4)))
    assert admitted(made) == ["job-0", "job-1", "job-2"]
    assert reasons(made) == {
        "job-3": "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, "
        "3m more needed"
    }


def test_higher_priority_first_then_the_older() -> None:
    made = decide(
        queue("q", 3), waits("old", "q", at=1), waits("young", "q", at=2), waits("high", "q", priority=5, at=3)
    )
    assert admitted(made) == ["high", "old", "young"]


def test_strict_fifo_stops_at_a_head_that_does_not_fit() -> None:
    waiting = (waits("big", "q", 8, at=1), waits("small", "q", 1, at=2))
    assert admitted(decide(queue("q", 5, strict=True), *waiting)) == []
    assert admitted(decide(queue("q", 5), *waiting)) == ["small"]


def test_a_strict_head_keeps_its_own_quota_from_borrowers() -> None:
    parts = (queue("a", 5, cohort="all", strict=True), queue("b", 0, cohort="all"), holds("runs", "a", 3))
    # 2 of a's 5 are left: a's head needs 3 and waits for them, b may not borrow them meanwhile.
    assert admitted(decide(*parts, waits("head", "a", 3, at=1), waits("borrower", "b", 2, at=2))) == []
    assert admitted(decide(*parts, waits("borrower", "b", 2, at=2))) == ["borrower"]


def test_borrowing_and_lending_as_in_kueues_example() -> None:
    """team-a: 9, team-b: 12, one cohort; without limits either may use 21."""
    parts = (queue("a", 9, cohort="all"), queue("b", 12, cohort="all"))
    assert admitted(decide(*parts, waits("all", "a", 21))) == ["all"]
    assert admitted(decide(*parts, waits("more", "a", 22))) == []
    limited = (queue("a", 9, borrowing=1, cohort="all"), queue("b", 12, cohort="all"))
    assert admitted(decide(*limited, waits("ten", "a", 10))) == ["ten"]
    assert admitted(decide(*limited, waits("eleven", "a", 11))) == []
    lent = (queue("a", 9, cohort="all"), queue("b", 12, lending=1, cohort="all"))
    assert admitted(decide(*lent, waits("ten", "a", 10))) == ["ten"]
    assert admitted(decide(*lent, waits("eleven", "a", 11))) == []


def test_what_can_never_fit_says_so() -> None:
    made = decide(queue("q", 9000), waits("big", "q", 10000))
    assert reasons(made)["big"].endswith(
        "insufficient quota for cpu in flavor default, request > maximum capacity (10 > 9)"
    )


def test_cohorts_have_quota_of_their_own_and_lend_up_the_tree() -> None:
    quotas = {FlavorResource("default", "cpu"): Quota(5)}
    limited = {FlavorResource("default", "cpu"): Quota(0, lending=2)}
    parts = (Cohort("org", quotas=quotas), Cohort("west", "org"), Cohort("east", "org"))
    queues = (queue("w", 2, cohort="west"), queue("e", 3, cohort="east"))
    assert admitted(decide(*parts, *queues, waits("all", "w", 10))) == ["all"]
    shy = (Cohort("org", quotas=quotas), Cohort("west", "org"), Cohort("east", "org", quotas=limited))
    assert admitted(decide(*shy, *queues, waits("all", "w", 10))) == []
    assert admitted(decide(*shy, *queues, waits("nine", "w", 9))) == ["nine"]


def test_a_cycle_of_cohorts_lends_nothing() -> None:
    parts = (Cohort("a", "b"), Cohort("b", "a"), queue("qa", 3, cohort="a"), queue("qb", 3, cohort="b"))
    assert admitted(decide(*parts, waits("four", "qa", 4), waits("three", "qb", 3))) == ["three"]


def test_flavors_in_order_with_labels_and_taints() -> None:
    spot = Flavor("spot", {"price": "spot"}, (Taint("spot", "true", "NoSchedule"),))
    regular = Flavor("regular", {"price": "regular"})
    both = queue("q", {"spot": 2, "regular": 9})

    def flavor_of(*pod_sets: PodSet) -> str:
        made = decide(both, spot, regular, waits("w", "q", pod_sets=pod_sets))
        return made.admit[0].pod_sets[0].flavors["cpu"] if made.admit else reasons(made)["w"]

    bearing = (Toleration("spot", "Exists", "", ""),)
    assert flavor_of(PodSet("main", 1, {"cpu": 1})) == "regular"
    assert flavor_of(PodSet("main", 1, {"cpu": 1}, tolerations=bearing)) == "spot"
    assert flavor_of(PodSet("main", 1, {"cpu": 3}, tolerations=bearing)) == "regular"
    assert flavor_of(PodSet("main", 1, {"cpu": 1}, {"price": "regular", "zone": "x"}, tolerations=bearing)) == "regular"
    assert flavor_of(PodSet("main", 1, {"cpu": 1}, {"price": "spot"})) == (
        "couldn't assign flavors to pod set main: untolerated taint {spot true NoSchedule} in flavor spot, "
        "flavor regular doesn't match node affinity"
    )


def test_fungibility_says_whether_borrowing_ends_the_search() -> None:
    flavors = (Flavor("first"), Flavor("second"))
    lender = queue("lender", {"first": 9, "second": 0}, cohort="all")

    def flavor_of(**more: Any) -> str:
        borrower = queue("q", {"first": 1, "second": 9}, cohort="all", **more)
        made = decide(*flavors, lender, borrower, waits("w", "q", 2))
        return made.admit[0].pod_sets[0].flavors["cpu"]

    assert flavor_of() == "first"
    assert flavor_of(borrow_stops=False) == "second"


def test_pods_are_a_resource_and_what_is_not_covered_is_named() -> None:
    quotas = {FlavorResource("default", "cpu"): Quota(9), FlavorResource("default", "pods"): Quota(5)}
    counted = Queue("q", (Group(("cpu", "pods"), ("default",)),), quotas)
    many = (PodSet("main", 6, {"cpu": 1}),)
    few = (PodSet("main", 5, {"cpu": 1}),)
    assert admitted(decide(counted, waits("many", "q", pod_sets=many), waits("few", "q", pod_sets=few))) == ["few"]
    gpus = (PodSet("main", 1, {"cpu": 1, "nvidia.com/gpu": 1}),)
    assert reasons(decide(queue("q"), waits("w", "q", pod_sets=gpus)))["w"] == (
        "couldn't assign flavors to pod set main: resource nvidia.com/gpu unavailable in ClusterQueue"
    )


def test_within_a_queue_the_less_important_makes_way() -> None:
    parts = (holds("low", "q", 5, priority=1, at=1), holds("mid", "q", 5, priority=2, at=2))
    urgent = waits("urgent", "q", 4, priority=3, at=3)
    assert preempted(decide(queue("q", preemption=Preemption()), *parts, urgent)) == {}
    made = decide(queue("q", preemption=Preemption("LowerPriority")), *parts, urgent)
    assert preempted(made) == {"low": "InClusterQueue"}
    assert admitted(made) == []
    assert "Pending the preemption of 1 workload(s)" in reasons(made)["urgent"]


def test_equal_priority_makes_way_only_if_newer_and_only_if_asked() -> None:
    newer, older = holds("newer", "q", 10, at=9), waits("older", "q", 1, at=1)
    assert preempted(decide(queue("q", preemption=Preemption("LowerPriority")), newer, older)) == {}
    equal = queue("q", preemption=Preemption("LowerOrNewerEqualPriority"))
    assert preempted(decide(equal, newer, older)) == {"newer": "InClusterQueue"}
    assert preempted(decide(equal, holds("older", "q", 10, at=1), waits("newer", "q", 1, at=9))) == {}


def test_no_more_victims_than_needed() -> None:
    """Taking the small one first does not help, so in the end only the large one goes."""
    parts = (holds("small", "q", 2, priority=1, at=2), holds("large", "q", 8, priority=2, at=1))
    made = decide(queue("q", preemption=Preemption("LowerPriority")), *parts, waits("urgent", "q", 8, priority=9))
    assert preempted(made) == {"large": "InClusterQueue"}


def test_a_queue_gets_its_own_quota_back() -> None:
    parts = (queue("b", 5, cohort="all"), holds("b1", "b", 5, at=1), holds("b2", "b", 5, priority=9, at=2))
    mine = waits("mine", "a", 5)
    own = Preemption(reclaim="Any")
    made = decide(queue("a", 5, cohort="all", preemption=own), *parts, mine)
    assert preempted(made) == {"b1": "InCohortReclamation"}
    lower = Preemption(reclaim="LowerPriority")
    assert preempted(decide(queue("a", 5, cohort="all", preemption=lower), *parts, mine)) == {}
    assert preempted(decide(queue("a", 5, cohort="all", preemption=Preemption("LowerPriority")), *parts, mine)) == {}


def test_what_is_not_borrowed_is_never_reclaimed() -> None:
    own = Preemption(reclaim="Any")
    parts = (queue("a", 5, cohort="all", preemption=own), queue("b", 5, cohort="all"))
    made = decide(*parts, holds("b1", "b", 5), holds("a1", "a", 5), waits("more", "a", 1))
    assert preempted(made) == {}


def test_what_already_ends_is_not_preempted_again_nor_is_more() -> None:
    own = Preemption("LowerPriority")
    parts = (holds("first", "q", 5, evicted=True), holds("second", "q", 5))
    made = decide(queue("q", preemption=own), *parts, waits("urgent", "q", 5, priority=1))
    assert preempted(made) == {}
    assert admitted(made) == []


def test_a_preemptor_keeps_others_from_what_it_waits_for() -> None:
    own = Preemption("LowerPriority")
    parts = (queue("q", preemption=own), holds("low", "q", 8, at=1))
    made = decide(*parts, waits("urgent", "q", 9, priority=5), waits("small", "q", 2, priority=0, at=5))
    assert preempted(made) == {"low": "InClusterQueue"}
    assert admitted(made) == []


def test_borrowing_within_the_cohort_takes_from_the_less_important() -> None:
    policy = Preemption(reclaim="LowerPriority", borrowing=True)
    parts = (queue("pool", 10, cohort="all"), queue("b", 0, cohort="all"), holds("b1", "b", 10, priority=1))
    urgent = waits("urgent", "a", 10, priority=200)
    made = decide(queue("a", 0, cohort="all", preemption=policy), *parts, urgent)
    assert preempted(made) == {"b1": "InCohortReclaimWhileBorrowing"}
    bounded = Preemption(reclaim="LowerPriority", borrowing=True, threshold=0)
    assert preempted(decide(queue("a", 0, cohort="all", preemption=bounded), *parts, urgent)) == {}


def test_the_queue_with_the_smaller_share_goes_first() -> None:
    parts = (queue("a", 0, cohort="all"), queue("b", 0, cohort="all"), queue("pool", 10, cohort="all"))
    waiting = [waits(f"a{at}", "a", at=at) for at in range(10)] + [waits(f"b{at}", "b", at=20 + at) for at in range(10)]
    made = admitted(decide(*parts, *waiting))
    assert sorted(name[0] for name in made) == ["a"] * 5 + ["b"] * 5


def test_weights_divide_the_share() -> None:
    parts = (queue("a", 0, cohort="all", weight=2.0), queue("b", 0, cohort="all"), queue("pool", 9, cohort="all"))
    waiting = [waits(f"{of}{at}", of, at=at) for of in "ab" for at in range(9)]
    made = admitted(decide(*parts, *waiting))
    assert sorted(name[0] for name in made) == ["a"] * 6 + ["b"] * 3


def test_fairness_takes_from_the_larger_share_and_stops_when_even() -> None:
    own = Preemption(reclaim="Any")
    parts = (queue("a", 0, cohort="all", preemption=own), queue("b", 0, cohort="all", preemption=own))
    pool = queue("pool", 4, cohort="all")
    made = decide(*parts, pool, *(holds(f"b{at}", "b", at=at) for at in range(4)), waits("a0", "a", at=9))
    assert preempted(made) == {"b3": "InCohortFairSharing"}
    even = [holds(f"{of}{at}", of, at=at) for of in "ab" for at in range(2)]
    assert preempted(decide(*parts, pool, *even, waits("more", "a", at=9))) == {}


def test_a_closed_queue_and_a_closed_workload_are_not_considered() -> None:
    made = decide(queue("q", closed="stopped"), queue("open"), waits("a", "q"), waits("b", "open", closed="held"))
    assert made == Decisions()


def test_a_workload_backs_off_until_its_time() -> None:
    later = waits("later", "q", not_before=NOW + timedelta(seconds=1))
    assert admitted(decide(queue("q"), later)) == []
    assert admitted(admit(state(queue("q"), later), NOW + timedelta(seconds=1))) == ["later"]


def test_like_workloads_are_judged_once_and_all_get_the_reason() -> None:
    alike = [waits(f"w{at}", "q", 20, at=at, shape="big") for at in range(3)]
    assert set(reasons(decide(queue("q"), *alike))) == {"w0", "w1", "w2"}


def test_the_state_is_left_as_it_was() -> None:
    before: State = state(queue("q"), holds("runs", "q", 3), waits("next", "q", 2))
    assert admit(before, NOW) == admit(before, NOW)
    assert before.holding[0].usage == {FlavorResource("default", "cpu"): 3}
    assert before.waiting[0].key == Key("default", "next")

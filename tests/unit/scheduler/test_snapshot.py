"""The snapshot: what changes it, what shares a class, and its copies; random events are in `properties`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.profile import SPREADING
from corral.scheduler.snapshot import RowLog, Snapshot
from corral.testing.scheduling import node, pod

NODES = [f"n{number}" for number in range(40)]
PODS = [f"p{number}" for number in range(12)]

TERM = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}}}
REQUIRED = {"requiredDuringSchedulingIgnoredDuringExecution": [TERM]}
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "podAffinityTerm": TERM}]}

some_node = st.builds(
    node,
    st.sampled_from(NODES),
    cpu=st.sampled_from(["1", "2500m"]),
    labels=st.dictionaries(st.sampled_from(["zone", "disk"]), st.sampled_from(["1", "2"])),
    taints=st.lists(st.sampled_from(["a=1:NoSchedule", "b=:PreferNoSchedule"]), unique=True),
    unschedulable=st.booleans(),
    extra=st.sampled_from([{}, {"nvidia.com/gpu": "1"}]),
)
some_pod = st.builds(
    pod,
    st.sampled_from(PODS),
    node_name=st.sampled_from(NODES[:6]),
    cpu=st.sampled_from(["", "100m", "1"]),
    memory=st.sampled_from(["", "1Gi"]),
    host_ports=st.lists(st.sampled_from([80, 443]), unique=True),
    labels=st.sampled_from([{}, {"app": "a"}]),
    priority=st.sampled_from([0, 5]),
    affinity=st.sampled_from([{}, {"podAntiAffinity": REQUIRED}, {"podAffinity": PREFERRED}]),
)
events = st.lists(
    st.one_of(
        st.tuples(st.just("node"), some_node),
        st.tuples(st.just("node gone"), st.sampled_from(NODES)),
        st.tuples(st.just("pod"), some_pod),
        st.tuples(st.just("pod gone"), st.sampled_from(PODS)),
    ),
    max_size=60,
)
asking = [
    pod("q1", cpu="500m"),
    pod("q2", nodeSelector={"zone": "1"}),
    pod("q3", host_ports=[80], tolerations=[{"operator": "Exists"}]),
    pod("q4", labels={"app": "a"}, affinity={"podAntiAffinity": REQUIRED}),
    pod("q5", labels={"app": "a"}, affinity={"podAffinity": REQUIRED | PREFERRED}),
    pod(
        "q6",
        labels={"app": "a"},
        topologySpreadConstraints=[TERM | {"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
    ),
    pod(
        "q7",
        nodeSelector={"disk": "1"},
        topologySpreadConstraints=[TERM | {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
    ),
]


def scores(snapshot: Snapshot, cache: CandidateCache) -> dict[str, list[float]]:
    totals = [cache.totals(snapshot.classify(wanted)) for wanted in asking]
    return {snapshot.machine(row).name: [float(total[row]) for total in totals] for row in snapshot.rows()}


def by_priority(snapshot: Snapshot) -> dict[tuple[int, str], dict[str, int]]:
    """What the pods of each priority take on each machine."""
    return {
        (priority, snapshot.machine(row).name): {
            name: int(amounts[row, at]) for name, at in snapshot.columns.items() if amounts[row, at]
        }
        for priority, amounts in snapshot.by_priority.items()
        for row in snapshot.rows()
    }


def apply(snapshot: Snapshot, what: str, value: Obj | str) -> None:
    """Let one event happen to `snapshot`."""
    if what == "node" and isinstance(value, dict):
        snapshot.put_node(value)
    elif what == "pod" and isinstance(value, dict):
        snapshot.place(key_of(value), snapshot.classify(value, placed=True), value["spec"]["nodeName"])
    elif what == "node gone":
        snapshot.remove_node(str(value))
    else:
        snapshot.remove(Key("default", str(value)))


def test_a_heartbeat_changes_nothing_that_placement_depends_on() -> None:
    snapshot = Snapshot()
    snapshot.put_node(node("a"))
    before = snapshot.shape, snapshot.used.end
    beat = node("a")
    beat["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z"
    snapshot.put_node(beat)
    assert (snapshot.shape, snapshot.used.end) == before


def test_pods_that_are_alike_share_a_class() -> None:
    snapshot = Snapshot()
    one = snapshot.classify(pod("a", cpu="1"))
    assert snapshot.classify(pod("b", cpu="1")) is one
    assert snapshot.classify(pod("b", cpu="1", node_name="n"), placed=True) is one
    assert snapshot.classify(pod("b", cpu="2")) is not one


def test_the_row_log_forgets_and_says_so() -> None:
    log = RowLog(keep=4)
    log.add(1)
    position = log.end
    log.add(2)
    assert log.since(position) == {2}
    for row in range(10):
        log.add(row)
    assert log.since(position) is None
    assert log.since(log.end) == set()


@settings(max_examples=60, deadline=None)
@given(events, events)
def test_a_copy_equals_its_original_and_neither_sees_what_happens_to_the_other(
    before: list[tuple[str, Obj | str]], after: list[tuple[str, Obj | str]]
) -> None:
    original = Snapshot()
    asked = [original.classify(wanted) for wanted in asking]
    for what, value in before:
        apply(original, what, value)
    copy, still = original.copy(), original.copy()
    of_copy = copy.copy()
    kept, kept_scores = original.usage(), scores(original, CandidateCache(original, SPREADING))
    assert copy.usage() == kept
    assert by_priority(copy) == by_priority(original)
    assert scores(copy, CandidateCache(copy, SPREADING)) == kept_scores
    for what, value in after:
        apply(copy, what, value)
    assert original.usage() == kept
    assert scores(original, CandidateCache(original, SPREADING)) == kept_scores
    for what, value in after:
        apply(original, what, value)
    assert original.usage() == copy.usage()
    assert scores(original, CandidateCache(original, SPREADING)) == scores(copy, CandidateCache(copy, SPREADING))
    for untouched in (still, of_copy):
        assert untouched.usage() == kept
        assert scores(untouched, CandidateCache(untouched, SPREADING)) == kept_scores
        for what, value in after:
            apply(untouched, what, value)
        assert scores(untouched, CandidateCache(untouched, SPREADING)) == scores(copy, CandidateCache(copy, SPREADING))
    assert len(asked) == len(asking)


def test_the_class_of_an_ending_pod_is_the_same_with_and_without_a_living_one() -> None:
    wanted = pod("p", cpu="1", topologySpreadConstraints=[{"maxSkew": 1, "topologyKey": "zone"}])
    wanted["metadata"]["labels"] = {"app": "a"}
    ending = {**wanted, "metadata": {**wanted["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    known, fresh = Snapshot(), Snapshot()
    living = known.classify(wanted)
    chosen_by = known.ties.choosing(living.peers)
    after, alone = known.classify(ending), fresh.classify(ending)
    assert (after.mark, after.alone, after.requests) == (alone.mark, alone.alone, alone.requests)
    assert [one.peers.terminating for one in (living, after, alone)] == [False, True, True]
    assert after.peers.spread == living.peers.spread
    assert known.ties.choosing(after.peers) == chosen_by
    assert known.classify(wanted) is living

"""The checks find what they are for, and nothing in histories of a store that keeps its word."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ...cell.chaos.model import (
    Figures,
    History,
    JobEnd,
    Line,
    Outcome,
    Write,
    broken_jobs,
    double_runs,
    figures,
    lost_tokens,
    lost_writes,
    violations,
)
from ...cell.chaos.plan import Fault, Sort

attempts = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.sampled_from(list(Outcome)), st.booleans()), max_size=40
)


def played(steps: list[tuple[str, bool, Outcome, bool]]) -> tuple[list[Write], dict[str, str]]:
    """The writes of a client, and what an honest store holds then: an unknown write took effect, or did not."""
    state: dict[str, str] = {}
    writes = []
    for number, (key, deletes, outcome, happens) in enumerate(steps):
        write = Write(key, None if deletes else str(number), outcome, float(number))
        writes.append(write)
        if outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and happens):
            if write.value is None:
                state.pop(key, None)
            else:
                state[key] = write.value
    return writes, state


@given(attempts)
def test_an_honest_store_loses_nothing(steps: list[tuple[str, bool, Outcome, bool]]) -> None:
    assert lost_writes(*played(steps)) == []


@given(attempts, st.data())
def test_an_acknowledged_write_that_is_undone_is_found(
    steps: list[tuple[str, bool, Outcome, bool]], data: st.DataObject
) -> None:
    writes, state = played([*steps, ("a", False, Outcome.OK, True)])
    older = [write.value for write in writes[:-1] if write.key == "a"]
    instead = data.draw(st.sampled_from([None, "from nowhere", *older]))
    spoilt = {**state, "a": instead} if instead is not None else {key: state[key] for key in state if key != "a"}
    assert len(lost_writes(writes, spoilt)) == 1


def test_a_key_that_nobody_wrote_is_found() -> None:
    assert lost_writes([], {"a": "1"}) == ["a holds '1'; it may hold ['None']"]


def test_a_set_holds_what_was_acknowledged_once_and_nothing_from_nowhere() -> None:
    appends = [Write("set", token, outcome, 0.0) for token, outcome in zip("abc", Outcome, strict=True)]
    assert lost_tokens(appends, ["a"]) == lost_tokens(appends, ["a", "c"]) == []
    assert lost_tokens(appends, ["b", "c", "c"]) == [
        "the acknowledged token a is lost",
        "the token b is from nowhere",
        "the token c is there 2 times",
    ]


def _said(event: str, uid: str, node: str, at: float) -> Line:
    return Line(event, "s", "s-0", uid, node, at)


DOUBLE = [_said("start", "a", "m1", 1.0), _said("start", "b", "m2", 3.0), _said("double", "b", "m2", 3.0)]
FROZEN = Fault(2.0, Sort.FREEZE_MACHINE, "m1", 18.0)
JOB = JobEnd("j", 2, 2, "0-1")
RUNS = [
    Line("start", "j", "0", "p", "m1", 1.0),
    Line("done", "j", "0", "p", "m1", 2.0),
    Line("start", "j", "1", "q", "m2", 3.0),
    Line("done", "j", "1", "q", "m2", 4.0),
]


def test_a_job_that_did_its_work_is_well() -> None:
    assert broken_jobs([JOB], RUNS, []) == []


@pytest.mark.parametrize(
    ("job", "runs", "said"),
    [
        (replace(JOB, succeeded=1), RUNS, "1 of 2 succeeded"),
        (replace(JOB, indexes="0"), RUNS, "indexes '0'"),
        (JOB, RUNS[:3], "index 1 was never done"),
        (JOB, [*RUNS, RUNS[3]], "pod q: 2 times done"),
        (JOB, [*RUNS, replace(RUNS[0], uid="r", at=5.0)], "index 0 began again at 5.0 s"),
    ],
)
def test_a_job_that_did_not_is_found(job: JobEnd, runs: list[Line], said: str) -> None:
    (found,) = broken_jobs([job], runs, [])
    assert said in found


def test_work_is_done_again_only_when_something_had_happened() -> None:
    runs = [*RUNS, replace(RUNS[0], uid="r", at=25.0)]
    fault = Fault(1.5, Sort.KILL_MACHINE, "m1", 10.0)
    assert broken_jobs([JOB], runs, [fault]) == []
    assert len(broken_jobs([JOB], runs, [replace(fault, at=26.0)])) == 1


def test_two_of_one_ordinal_are_found() -> None:
    assert double_runs(DOUBLE, []) == ["s/s-0 ran twice at 3.0 s: it began on m2 (b)"]
    assert violations(History(journal=DOUBLE)) == double_runs(DOUBLE, [])
    assert double_runs(DOUBLE, [FROZEN]), "it ran on after the thaw"
    assert double_runs([*DOUBLE, _said("alone", "b", "m2", 20.9)], []), "nothing had stood still"


@pytest.mark.parametrize(
    ("later", "overlap"),
    [
        ([("alone", "b", "m2", 20.3)], 0.3),
        ([("alone", "b", "m2", 19.0)], 0.0),
        ([("start", "c", "m3", 15.0), ("double", "c", "m3", 15.1), ("alone", "c", "m3", 20.5)], 0.5),
    ],
)
def test_what_stood_still_has_a_moment_to_die_in(later: list[tuple[str, str, str, float]], overlap: float) -> None:
    journal = [*DOUBLE, *(_said(*line) for line in later)]
    assert double_runs(journal, [FROZEN]) == []
    assert max(figures(History(journal=journal, faults=[FROZEN]), []).overlaps) == pytest.approx(overlap)
    late = [*journal[:-1], replace(journal[-1], at=21.5)]
    assert len(double_runs(late, [FROZEN])) == 1


def test_figures_of_a_machine_that_dies() -> None:
    history = History(
        faults=[Fault(10.0, Sort.KILL_MACHINE, "m1", 15.0), Fault(30.0, Sort.PARTITION, "m2", 1.0)],
        journal=[
            Line("start", "s", "s-0", "a", "m1", 1.0),
            Line("start", "s", "s-1", "b", "m2", 1.0),
            Line("start", "s", "s-0", "c", "m2", 17.5),
        ],
        ready=[(0.0, "m1", True), (14.0, "m1", False), (27.0, "m1", True)],
        endpoints=[(2.0, ("m1", "m2")), (14.0, ("m2",)), (16.5, ("m2", "m3"))],
        requests=[(9.0, True), (10.5, False), (11.0, True), (12.0, True)],
    )
    found = figures(history, ["s"])
    assert found == Figures([4.0], [7.5], [6.5], [], 4, 1)
    assert found.lines()[0] == "time to detect: median 4.0 s, worst 4.0 s (1)"
    assert found.lines()[3] == "requests lost: 1 of 4 (25.00 %)"
    assert figures(history, ["s"], alone=True) == found
    history.faults.append(Fault(12.0, Sort.KILL_SERVER, "s1", 1.0))
    assert figures(history, ["s"], alone=True) == Figures([], [], [], [], 4, 1)

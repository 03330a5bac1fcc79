"""What a person reads: tables, spans, and the words of `corral why`."""

import pytest

from corral.cli import attach, terminal, why
from corral.cli.ps import program_name, status_word
from corral.kinds.conditions import node_troubles
from corral.kinds.status import StatusError


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "12 ms"), (3.44, "3.4 s"), (125, "2 min 5 s"), (11040, "3 h 4 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert terminal.duration(seconds) == text


def test_columns_line_up_and_leave_no_trailing_blanks() -> None:
    text = terminal.columns(["NAME", "AGE"], [["a-long-name", "3s"], ["b", ""]])
    assert text == "NAME          AGE\na-long-name   3s\nb"


def test_no_colour_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("hello")
    captured = capsys.readouterr()
    assert captured.err == "corral: hello\n"
    assert captured.out == ""


def test_status_words() -> None:
    waiting = {"metadata": {}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}
    ended = {"state": {"terminated": {"reason": "Error", "exitCode": 3}}}
    assert status_word(waiting) == "ErrImagePull"
    assert status_word({"metadata": {}, "status": {"containerStatuses": [ended]}}) == "Error (3)"
    assert status_word({"metadata": {"deletionTimestamp": "x"}, "status": {}}) == "Terminating"
    assert status_word({"metadata": {}, "status": {"phase": "Pending"}}) == "Pending"


def test_a_program_is_called_by_its_jobs_name() -> None:
    assert program_name({"metadata": {"name": "x-1", "labels": {"batch.kubernetes.io/job-name": "x"}}}) == "x"
    assert program_name({"metadata": {"name": "x-1"}}) == "x-1"


def test_placement_names_each_machine_and_what_would_help() -> None:
    placement = {
        "machines": [
            {"name": "m1", "fits": False, "reasons": ["Insufficient cpu"]},
            {"name": "m2", "fits": False, "reasons": ["node(s) had untolerated taint {a: b}", "Insufficient memory"]},
        ],
        "closest": {"name": "m1", "missing": {"cpu": "500m"}},
        "hints": ["no machine has label disk=sdd; m1 has disk=ssd"],
        "would_help": ["ask for 500m less cpu"],
    }
    text = "\n".join(why.placement_words(placement))
    assert "none of 2 machines takes it" in text
    assert "m2        node(s) had untolerated taint {a: b}; Insufficient memory" in text
    assert "closest: m1, where 500m cpu is missing" in text
    assert "hint: no machine has label" in text
    assert "would help: ask for 500m less cpu" in text


def test_no_machine_at_all() -> None:
    many = [{"name": f"m{number}", "fits": False, "reasons": ["Insufficient cpu"]} for number in range(40)]
    text = "\n".join(why.placement_words({"message": "", "machines": many, "total": 5000}))
    assert "none of 5000 machines takes it" in text
    assert "m0, m1, m2 and 37 more   Insufficient cpu" in text
    assert "and 4960 more that are further from taking it" in text
    assert "no machine" in "\n".join(why.placement_words({"machines": []}))


def test_container_words_carry_the_remedy() -> None:
    pod = {
        "status": {
            "containerStatuses": [
                {
                    "name": "main",
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                    "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
                }
            ]
        }
    }
    said = list(why.container_words(pod))
    assert "corral logs --previous" in said[0]
    assert "exit code 137" in said[1]
    assert "more memory" in said[1]


def test_exit_codes_of_remote_commands() -> None:
    failure = {"status": "Failure", "reason": "NonZeroExitCode"}
    cause = {"reason": "ExitCode", "message": "7"}
    assert attach.exit_code({"status": "Success"}) == 0
    assert attach.exit_code({**failure, "details": {"causes": [cause]}}) == 7
    with pytest.raises(StatusError, match="no such container"):
        attach.exit_code({"status": "Failure", "reason": "InternalError", "message": "no such container"})


def test_what_a_machine_says_of_itself() -> None:
    said = [("Ready", "True"), ("DiskPressure", "False"), ("DiskErrors", "True"), ("ClockSkewed", "Unknown")]
    node = {"status": {"conditions": [{"type": type_, "status": status} for type_, status in said]}}
    assert [one["type"] for one in node_troubles(node)] == ["DiskErrors", "ClockSkewed"]
    assert node_troubles({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
    assert node_troubles({}) == []

"""The Job that `corral run` makes, and how its end becomes an exit code."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base.errors import CorralError
from corral.cli import programs
from corral.cli.follow import pull_seconds
from corral.cli.logs import span
from corral.cli.run import check_quantity
from corral.kinds.registry import Registry


@pytest.mark.parametrize(
    ("argv", "stem"),
    [
        (["python3", "train.py"], "train"),
        (["python3", "-c", "print(1)"], "python3"),
        (["./Some Program!"], "some-program"),
        (["/usr/bin/env"], "env"),
        (["bash", "dir/Do_It.sh"], "do-it"),
        (["%%"], "program"),
        (["x" * 100], "x" * 46),
    ],
)
def test_a_name_comes_from_the_program(argv: list[str], stem: str) -> None:
    assert re.fullmatch(re.escape(stem) + "-[a-z0-9]{5}", programs.name_for(argv, random.Random(1)))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3), st.integers())
def test_every_name_is_a_dns_label(argv: list[str], seed: int) -> None:
    name = programs.name_for(argv, random.Random(seed))
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name)
    assert len(name) <= programs.NAME_LIMIT


def test_env_is_dockers() -> None:
    assert programs.parse_env(["A=1", "B=x=y", "C=", "HOME"], {"HOME": "/h"}) == {
        "A": "1",
        "B": "x=y",
        "C": "",
        "HOME": "/h",
    }
    with pytest.raises(CorralError, match="NOPE"):
        programs.parse_env(["NOPE"], {})
    with pytest.raises(CorralError, match="no name"):
        programs.parse_env(["=x"], {})


def test_the_job_is_one_that_the_api_takes() -> None:
    program = programs.Program("x", ["sh", "-c", "echo $HOME"], "host", "0" * 64, "2", "1Gi", {"A": "$B"}, True, True)
    job = programs.job(program)
    kind = Registry.builtin().by_kind("batch", "v1", "Job")
    assert kind is not None
    assert kind.schema.prune(job) == []
    assert kind.schema.validate(job) == []
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"][2] == "echo $$HOME"
    assert container["env"] == [{"name": "A", "value": "$$B"}]
    assert container["resources"] == {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}


def test_a_program_gets_no_credentials() -> None:
    job = programs.job(programs.Program("x", ["true"], "host", "0" * 64))
    assert job["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        ({"exitCode": 3, "reason": "Error"}, 3),
        ({"exitCode": 0, "reason": "Completed"}, 0),
        ({"exitCode": 137, "reason": "OOMKilled"}, 137),
        ({"exitCode": 128, "reason": "StartError", "message": 'exec: "x": executable file not found in $PATH'}, 127),
        ({"exitCode": 128, "reason": "StartError", "message": "exec: no such file or directory"}, 127),
        ({"exitCode": 128, "reason": "StartError", "message": "permission denied"}, 126),
    ],
)
def test_exit_codes_are_dockers(ended: dict[str, object], code: int) -> None:
    assert programs.exit_code(ended) == code


def test_what_a_pod_says() -> None:
    pod = {"status": {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ErrImagePull"}}}]}}
    assert programs.waiting(pod) == {"reason": "ErrImagePull"}
    assert programs.terminated(pod) is None
    assert programs.container_status({}) == {}


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Successfully pulled image "x" in 1.2s (1.2s including waiting)', 1.2),
        ('Successfully pulled image "x" in 350ms (350ms including waiting)', 0.35),
        ('Successfully pulled image "x" in 1m2.5s', 62.5),
        ('Container image "host" already present on machine', 0.0),
    ],
)
def test_pull_time_from_the_event(message: str, seconds: float) -> None:
    assert pull_seconds(message) == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("10s", 10), ("1h30m", 5400), ("2d", 172800)])
def test_spans(text: str, seconds: int) -> None:
    assert span(text) == seconds


def test_a_bad_span_is_named() -> None:
    with pytest.raises(Exception, match="soon"):
        span("soon")


@pytest.mark.parametrize("text", ["", "0.5", "2", "512Mi"])
def test_good_quantities_pass(text: str) -> None:
    check_quantity("--cpu", text)


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.2.3", "1e999999999", "2 GB"])
def test_a_bad_quantity_names_its_flag(text: str) -> None:
    with pytest.raises(CorralError, match=f"--memory {text}"):
        check_quantity("--memory", text)

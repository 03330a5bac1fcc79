"""`corral simulate` from files: answers, exit codes, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from corral.app.main import cli

MACHINES = "name,count,cpu,memory,zone\nsmall,3,4,8Gi,a\nlarge,1,16,32Gi,b\n"
WORKLOADS = "name,count,cpu,memory,priority\nweb,4,2,2Gi,production\ntrain,5,3,4Gi,batch\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("machines.csv").write_text(MACHINES)
    Path("workloads.csv").write_text(WORKLOADS)
    return tmp_path


def simulate(*arguments: str) -> Result:
    return CliRunner().invoke(
        cli, ["simulate", *arguments, "--machines", "machines.csv", "--workloads", "workloads.csv"]
    )


def data(result: Result) -> Any:
    return json.loads(result.stdout)


@pytest.mark.usefixtures("files")
def test_it_fits() -> None:
    result = simulate("fit")
    assert result.exit_code == 0
    assert result.stdout.startswith("It fits: 9 pods placed on 4 machines.\n")
    told = data(simulate("fit", "-o", "json"))
    assert told["fits"] is True
    cpu = told["after"]["resources"]["cpu"]
    assert (cpu["allocatable"], cpu["used"]) == (28000, 23000)
    assert len(told["placed"]) == 9
    assert "small-0" in simulate("fit", "-o", "wide").stdout


@pytest.mark.usefixtures("files")
def test_what_does_not_fit_is_said_in_the_words_of_the_scheduler() -> None:
    Path("workloads.csv").write_text("name,cpu,memory\nhuge,64,1Gi\n")
    result = simulate("fit")
    assert result.exit_code == 1
    assert "It does not fit: no machine for 1 of 1 pod." in result.stdout
    assert "0/4 nodes are available: 4 Insufficient cpu." in result.stdout


@pytest.mark.usefixtures("files")
def test_the_same_seed_gives_the_same_answer() -> None:
    assert simulate("fit", "-o", "json", "--seed", "7").stdout == simulate("fit", "-o", "json", "--seed", "7").stdout


@pytest.mark.usefixtures("files")
def test_machines_die() -> None:
    result = simulate("fail", "large-0", "-o", "json")
    assert result.exit_code == 1
    told = data(result)
    assert told["died"] == ["large-0"]
    by_band = {row["band"]: row for row in told["bands"]}
    assert by_band["production"]["lost"] == 0
    assert by_band["batch"]["lost"] > 0
    assert data(simulate("fail", "--zone", "a", "-o", "json"))["died"] == ["small-0", "small-1", "small-2"]
    assert len(data(simulate("fail", "--count", "2", "-o", "json"))["died"]) == 2


@pytest.mark.usefixtures("files")
def test_profiles_side_by_side() -> None:
    result = simulate("policy")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[:3]] == ["PROFILE", "spreading", "packing"]


@pytest.mark.usefixtures("files")
def test_how_few_machines_would_do() -> None:
    told = data(simulate("compact", "--trials", "3", "--profiles", "packing", "-o", "json"))
    (packing,) = told["profiles"]
    assert (told["machines"], told["pods"], len(packing["trials"])) == (4, 9, 3)
    assert packing["bound"] <= packing["needed"] == max(packing["trials"])
    assert "PROFILE" in simulate("compact", "--trials", "1").stdout


@pytest.mark.usefixtures("files")
def test_pods_come_and_go() -> None:
    Path("workloads.csv").write_text("name,cpu,memory,start,duration\na,16,1Gi,0,60\nb,16,1Gi,30,60\n")
    told = data(simulate("run", "-o", "json"))
    assert told["times"] == [0, 30, 60, 120]
    assert told["bands"][0]["wait"] == {"p50": 0, "p90": 30, "p99": 30, "longest": 30}
    assert told["resources"]["cpu"] == {"allocatable": 28000, "mean": 16000, "peak": 16000}
    assert "2 pods on 4 machines in 2m: every one ran." in simulate("run").stdout


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("arguments", [["fit"], ["compact", "--trials", "2"], ["fail", "small-1"], ["policy"], ["run"]])
def test_answers_are_drawn(arguments: list[str]) -> None:
    result = simulate(*arguments, "--plot", "answer.png")
    assert result.stderr == ""
    image = Path("answer.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) > 10_000


@pytest.mark.usefixtures("files")
def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = simulate("fit", "--plot", "answer.png")
    assert result.exit_code == 125
    assert "pip install 'corral[plot]'" in result.stderr
    assert simulate("fit").exit_code == 0


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "says", "remedy"),
    [
        (["fail"], "cannot tell which machines die", "name them"),
        (["fail", "large-9"], "there is none of that name", "did you mean 'large-0'?"),
        (["fail", "--count", "9"], "there are 4", "choose fewer"),
        (["fail", "--zone", "c"], "no machine has the labels", "choose other"),
        (["fit", "--profile", "tetris"], "there is no such profile", "spreading"),
        (["policy", "--profiles", "a"], "there is no such profile", "spreading"),
        (["fit", "--plot", "answer.xls"], "its name says no format", ".png"),
        (["fit", "--plot", "no/answer.png"], "cannot write no/answer.png: No such file", "name another"),
        (["fit", "--from", "no.yaml"], "cannot read no.yaml: No such file", "name a file"),
    ],
)
def test_refusals_name_the_remedy(arguments: list[str], says: str, remedy: str) -> None:
    result = simulate(*arguments)
    assert result.exit_code == 125
    assert says in result.stderr
    assert remedy in result.stderr
    assert result.stdout == "" or "--plot" in arguments


@pytest.mark.usefixtures("files")
def test_what_was_saved_gives_the_same_answer() -> None:
    for name in ("cell.json", "cell.yaml"):
        assert simulate("save", name).exit_code == 0
        again = CliRunner().invoke(cli, ["simulate", "fit", "--from", name, "-o", "json"])
        assert data(again)["placed"] == data(simulate("fit", "-o", "json"))["placed"]

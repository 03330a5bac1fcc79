"""The GPU benchmark on a small trace of its form."""

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).parents[3] / "bench" / "openb.py"
_NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(
    f"m{number},{16000 + 16000 * (number % 2)},131072,{2 + 2 * (number % 2)},{'T4' if number % 3 else 'V100'}\n"
    for number in range(8)
)
_KINDS = [
    "4000,8192,0,0,",
    "4000,8192,1,300,",
    "6000,16384,1,650,",
    "8000,16384,1,1000,",
    "8000,16384,1,1000,T4|V100",
    "8000,16384,1,500,V100",
    "16000,65536,2,1000,",
]


@pytest.fixture
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openb", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["openb"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(1)
    header = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"
    rows = "".join(f"p{number},{rng.choice(_KINDS)}\n" for number in range(40))
    (tmp_path / "openb_pod_list_default.csv").write_text(header + rows)
    (tmp_path / "openb_node_list_gpu_node.csv").write_text(_NODES)
    return tmp_path


@pytest.mark.parametrize("learning", [[], ["--learn"]])
def test_the_figures_are_those_of_the_trace(
    bench: ModuleType,
    data: Path,
    learning: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["openb", "--data", str(data), "--seeds", "2", "-o", "json", *learning])
    bench.main()
    first = json.loads(capsys.readouterr().out)
    assert 60 < first["min"] <= first["mean"] <= first["max"] <= 100
    assert set(first["dropped"]) == {"0", "1", "2", "fraction"}
    assert all(0 <= share <= 1 for share in first["dropped"].values())
    bench.main()
    again = json.loads(capsys.readouterr().out)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_the_published_policies_run_on_the_same_orders(
    bench: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [word for name in ("packing", "fgd", "best-fit") for word in ("--profile", name)]
    monkeypatch.setattr(sys, "argv", ["openb", "--data", str(data), "--seeds", "1", *names])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["packing", "fgd", "best-fit"]


def test_without_data_it_says_where_there_is_some(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORRAL_OPENB", raising=False)
    monkeypatch.setattr(sys, "argv", ["openb"])
    with pytest.raises(SystemExit, match=r"github\.com/alibaba/clusterdata"):
        bench.main()
    monkeypatch.setattr(sys, "argv", ["openb", "--data", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"openb: cannot read .*openb_node_list_gpu_node.csv: No such file"):
        bench.main()

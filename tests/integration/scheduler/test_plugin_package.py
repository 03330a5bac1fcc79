"""The example package, really installed, in a live scheduler."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from corral.kinds.types import Obj
from corral.scheduler import plugins
from corral.scheduler.planner import Planner
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import Cell

EXAMPLE = Path(__file__).parents[3] / "examples" / "scheduler-plugin"
TEAM, OWNER, PRICE, SECONDS = (
    f"example.com/{name}" for name in ("team", "reserved-for", "price-per-hour", "expected-seconds")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which pip has installed the example, without a network."""
    source, target = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    options = ["--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, timeout=100)
    return target


@pytest.fixture
def options(site: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How a cell starts its scheduler when the example is installed."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "corral_example", raising=False)
    profiles = plugins.load().by_name()
    return {"profile": profiles["spreading"], "others": profiles}


def labelled(name: str, labels: dict[str, str], **more: Any) -> Obj:
    return pod(name, labels=labels, **more)


async def test_the_filter_and_the_score_of_the_example_place_pods(cell: Cell, options: dict[str, Any]) -> None:
    await cell.add(
        node("dear", cpu="64", labels={PRICE: "9.5"}),
        node("cheap", cpu="4", labels={PRICE: "0.1"}),
        node("theirs", cpu="64", labels={OWNER: "search"}),
    )
    scheduler = await cell.schedule(**options)
    await cell.add(pod("plain", cpu="100m"), labelled("search", {TEAM: "search"}, cpu="32"))
    assert await cell.bound("plain") == "cheap"
    assert await cell.bound("search") in ("dear", "theirs")
    await cell.add(pod("big", cpu="40", nodeSelector={OWNER: "search"}))
    message = (await cell.refused("big"))["message"]
    assert "1 node(s) were reserved for the team search" in message
    assert (await cell.event("big", "FailedScheduling"))["message"] == message
    machines = {machine["name"]: machine["reasons"] for machine in scheduler.why("default", "big")["machines"]}
    assert "node(s) were reserved for the team search" in machines["theirs"]
    answer = await Planner(scheduler, cell.client).plan(
        [pod("next", nodeSelector={OWNER: "search"})], "default", cell.client
    )
    assert "node(s) were reserved for the team search" in answer["workloads"][0]["refused"][0]["message"]


async def test_the_profile_of_the_example_is_for_pods_that_name_it(cell: Cell, options: dict[str, Any]) -> None:
    await cell.add(node("dear", cpu="64", labels={PRICE: "9.5"}), node("cheap", cpu="1", labels={PRICE: "0.1"}))
    await cell.schedule(**options)
    await cell.add(*(pod(f"p{number}", cpu="200m", schedulerName="thrifty") for number in range(6)))
    places = [await cell.bound(f"p{number}") for number in range(6)]
    assert sorted(places) == ["cheap"] * 5 + ["dear"]


async def test_the_order_of_the_example_runs_short_jobs_first(cell: Cell, options: dict[str, Any]) -> None:
    for name, seconds in (("long", "3600"), ("middle", "60"), ("short", "5")):
        await cell.add(labelled(name, {SECONDS: seconds}, cpu="1"))
    await cell.add(node("a", cpu="2"))
    await cell.schedule(**options)
    assert await cell.bound("short") == "a"
    assert await cell.bound("middle") == "a"
    await cell.refused("long", "Insufficient cpu")


async def test_a_failing_rule_does_not_stop_the_scheduler(
    cell: Cell, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import corral_example  # type: ignore[import-not-found]

    await cell.add(node("a"))
    scheduler = await cell.schedule(**options)
    real = corral_example.Reserved.fits

    def fits(self: Any, snapshot: Any, wanted: Any, rows: Any) -> Any:
        return 1 // 0 if wanted.labels.get(TEAM) == "broken" else real(self, snapshot, wanted, rows)

    monkeypatch.setattr(corral_example.Reserved, "fits", fits)
    await cell.add(labelled("broken", {TEAM: "broken"}), pod("plain"))
    words = "1 node(s) on which the filter 'reserved' of corral-example 0.1 failed: ZeroDivisionError"
    assert (await cell.refused("broken", words))["reason"] == "Unschedulable"
    assert await cell.bound("plain") == "a"
    await asyncio.sleep(0)
    assert words[2:] in scheduler.why("default", "broken")["machines"][0]["reasons"][0]

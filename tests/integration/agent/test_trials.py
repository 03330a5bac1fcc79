"""What the kernel can do is tried, and the trial leaves nothing behind."""

import os
from pathlib import Path

import pytest

from corral.agent import trials
from corral.agent.runtime import spawn


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_the_kernel_of_this_machine_has_what_it_is_tried_for() -> None:
    before = {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("corral0")}
    found = {check.name: check for check in trials.trials()}
    assert list(found) == ["bridge", "veth", "vxlan", "nf_tables"]
    assert [check.detail for check in found.values() if check.level == "needed" and not check.ok] == []
    assert {path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith("corral0")} == before


def test_what_the_kernel_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_LINKS", (("unheard-of", "link add corral0 type unheard-of", "needed"),))
    unknown = trials.trials()[0]
    assert not unknown.ok
    assert unknown.remedy


def test_without_the_program_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spawn, "PATH", str(tmp_path))
    assert all(check.ok and "not installed" in check.detail for check in trials.trials())

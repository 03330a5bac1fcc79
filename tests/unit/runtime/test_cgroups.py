"""Control groups of all kinds, on plain directories."""

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent.runtime.api import RuntimeFailure, Usage
from corral.agent.runtime.oci import cgroups
from corral.agent.runtime.oci.cgroups import Cgroups, Kind, Limits, Setting


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    """The root of a v2 hierarchy (as files)."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids hugetlb")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


def test_kinds_are_told_apart(tmp_path: Path, v2: Path) -> None:
    assert cgroups.detect(v2) == "v2"
    hybrid = tmp_path / "hybrid"
    (hybrid / "unified").mkdir(parents=True)
    assert cgroups.detect(hybrid) == "v1"
    (hybrid / "unified" / "cgroup.procs").touch()
    assert cgroups.detect(hybrid) == "hybrid"


def test_weights_follow_kubernetes_formula() -> None:
    assert [cgroups.weight(shares) for shares in (0, 2, 1024, 262_144, 999_999)] == [1, 1, 39, 10_000, 10_000]


@given(st.integers(2, 262_144), st.integers(2, 262_144))
def test_more_shares_never_weigh_less(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert 1 <= cgroups.weight(low) <= cgroups.weight(high) <= 10_000


def test_settings_of_v2() -> None:
    limits = Limits(cpu_shares=1024, cpu_quota=50_000, memory=1 << 20, cpuset="0")
    assert cgroups.settings("v2", limits) == [
        Setting("cpu", "cpu.max", "50000 100000"),
        Setting("memory", "memory.max", "1048576"),
        Setting("pids", "pids.max", "max"),
        Setting("cpu", "cpu.weight", "39"),
        Setting("cpuset", "cpuset.cpus", "0"),
    ]


@pytest.mark.parametrize("kind", ["v1", "hybrid"])
def test_settings_of_v1(kind: Kind) -> None:
    assert cgroups.settings(kind, Limits(cpu_shares=512, pids=7)) == [
        Setting("cpu", "cpu.cfs_period_us", "100000"),
        Setting("cpu", "cpu.cfs_quota_us", "-1"),
        Setting("memory", "memory.limit_in_bytes", "-1"),
        Setting("pids", "pids.max", "7"),
        Setting("cpu", "cpu.shares", "512"),
    ]


def test_usage_of_v2() -> None:
    usage = cgroups.usage_from(
        "v2",
        {
            "cpu.stat": "usage_usec 1500\nuser_usec 1000\n",
            "memory.current": "9000\n",
            "memory.stat": "anon 3000\nfile 6000\ninactive_file 5000\n",
            "memory.events": "low 0\noom 2\noom_kill 1\n",
            "pids.current": "3\n",
        },
    )
    assert usage == Usage(1_500_000, 9000, 4000, 3000, 3, 1)


def test_usage_of_v1_and_of_nothing() -> None:
    usage = cgroups.usage_from(
        "hybrid",
        {
            "cpuacct.usage": "12\n",
            "memory.usage_in_bytes": "100\n",
            "memory.stat": "cache 1\ntotal_rss 40\ntotal_inactive_file 200\n",
            "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        },
    )
    assert usage == Usage(12, 100, 0, 40, 0, 4)
    assert cgroups.usage_from("v2", {}) == Usage(0, 0, 0, 0, 0, 0)


def test_a_pods_group_gets_its_limits_on_v2(v2: Path) -> None:
    # A real hierarchy makes these files itself.
    for group in ("corral-x", "corral-x/pod-u"):
        (v2 / group).mkdir()
        (v2 / group / "cgroup.subtree_control").write_text("")
        (v2 / group / "cgroup.controllers").write_text("cpu memory pids")
    for name in ("cpu.max", "memory.max", "pids.max", "cpu.weight"):
        (v2 / "corral-x/pod-u" / name).write_text("")
    groups = Cgroups("/corral-x", v2)
    assert groups.create_pod("u", Limits(cpu_shares=1024, memory=4096)) == "/corral-x/pod-u"
    pod = v2 / "corral-x/pod-u"
    assert (pod / "memory.max").read_text() == "4096"
    assert (pod / "cpu.weight").read_text() == "39"
    assert (pod / "cpu.max").read_text() == ""


def test_controllers_are_delegated_down_to_the_pods(v2: Path) -> None:
    (v2 / "corral-x").mkdir()
    (v2 / "corral-x" / "cgroup.controllers").write_text("cpu memory")
    (v2 / "corral-x" / "cgroup.subtree_control").write_text("memory")
    Cgroups("/corral-x", v2).create_pod("u", Limits())
    # Each controller is one write; the last is what a plain file keeps.
    assert (v2 / "cgroup.subtree_control").read_text() == "+pids"
    assert (v2 / "corral-x" / "cgroup.subtree_control").read_text() == "+cpu"


def test_groups_are_removed_from_the_leaves_up(v2: Path) -> None:
    (v2 / "corral-x/pod-u/c").mkdir(parents=True)
    assert Cgroups("/corral-x", v2).remove("/corral-x/pod-u")
    assert [path.name for path in (v2 / "corral-x").iterdir()] == []
    assert Cgroups("/corral-x", v2).remove("/corral-x/pod-u")


def test_a_group_with_processes_of_its_own_is_named(v2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, value: str) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy", str(path))

    monkeypatch.setattr(cgroups, "_write", refuse)
    with pytest.raises(RuntimeFailure, match="has processes of its own") as failure:
        Cgroups("/corral-x", v2).prepare()
    assert failure.value.remedy


def test_a_group_of_v2_is_killed_at_once(v2: Path) -> None:
    (v2 / "corral-x").mkdir()
    (v2 / "corral-x" / "cgroup.kill").write_text("")
    Cgroups("/corral-x", v2).kill("/corral-x")
    assert (v2 / "corral-x" / "cgroup.kill").read_text() == "1"

"""What sequences of readings mean."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agent.problems import conntrack, disks, filesystem, oom, pressure, runtime, skew
from corral.agent.problems.api import Finding, Sample, persists

MIB = 1 << 20
WELL = pressure.Reading(1 << 30, 100 * MIB, 50 * MIB, 1000, 500, 100, 1000)


def over_time(*values: object, every: float = 5.0) -> list[Sample[object]]:
    return [Sample(every * number, value) for number, value in enumerate(values)]


def ill(found: Sequence[Finding]) -> set[str]:
    return {finding.type for finding in found if finding.trouble}


def judged(judge: Callable[..., Sequence[Finding]], *values: object, every: float = 5.0) -> Finding:
    """The only finding after the last of `values`."""
    (finding,) = judge(over_time(*values, every=every), every * (len(values) - 1))
    return finding


# How long trouble lasts.


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(1, 4), st.integers(0, 60))
def test_trouble_needs_enough_in_a_row_and_lasts_as_long_as_it_is_held(bad: list[bool], times: int, hold: int) -> None:
    samples = [Sample(float(at), value) for at, value in enumerate(bad)]
    now = float(len(bad) - 1)
    ends = [at for at in range(times - 1, len(bad)) if all(bad[at - times + 1 : at + 1])]
    expected = bool(ends) and now - ends[-1] <= hold
    found = persists(samples, bool, now, times=times, hold=hold)
    assert (found is not None) == expected
    assert found is None or found.at == ends[-1]


@given(st.lists(st.sampled_from([0, 60, 200]), min_size=2, max_size=60))
def test_pressure_begins_at_once_and_changes_no_oftener_than_it_is_held(available: list[int]) -> None:
    readings = [replace(WELL, memory_available=mib * MIB) for mib in available]
    told = []
    for number in range(1, len(readings) + 1):
        samples = [Sample(5.0 * at, reading) for at, reading in enumerate(readings[:number])]
        told.append("MemoryPressure" in ill(pressure.judge(samples, samples[-1].at)))
    assert all(said for said, mib in zip(told, available, strict=True) if mib < 100)
    ends = [at for at in range(1, len(told)) if told[at - 1] and not told[at]]
    assert all(not any(mib < 100 for mib in available[max(0, end - 12) : end + 1]) for end in ends)


# Each of them.


@pytest.mark.parametrize(
    ("reading", "type_", "words"),
    [
        (replace(WELL, memory_available=99 * MIB), "MemoryPressure", "99Mi left, less than 100Mi"),
        (replace(WELL, pods_over=3 * MIB), "MemoryPressure", "the pods use 3Mi more than the machine has for them"),
        (replace(WELL, disk_available=9 * MIB), "DiskPressure", "9Mi of 100Mi (9%) left, less than 10%"),
        (replace(WELL, inodes_free=49), "DiskPressure", "49 of 1000 inodes left, less than 5%"),
        (replace(WELL, processes=951), "PIDPressure", "951 processes and threads of at most 1000"),
    ],
)
def test_pressures(reading: pressure.Reading, type_: str, words: str) -> None:
    found = pressure.judge(over_time(reading), 0.0)  # type: ignore[arg-type]
    assert ill(found) == {type_}
    (finding,) = (one for one in found if one.trouble)
    assert finding.message.endswith(words)
    assert finding.acute


def test_exactly_at_the_threshold_is_well_and_a_file_system_without_inodes_too() -> None:
    edge = replace(WELL, memory_available=100 * MIB, disk_available=10 * MIB, inodes=0, inodes_free=0, processes=950)
    assert ill(pressure.judge(over_time(edge), 0.0)) == set()  # type: ignore[arg-type]


def disk_pressure(*available: int) -> tuple[bool | None, bool]:
    """Whether it is said, and whether it is acute, after the last of so many MiB."""
    samples = over_time(*(replace(WELL, disk_available=mib * MIB) for mib in available))
    found = pressure.judge(samples, samples[-1].at)  # type: ignore[arg-type]
    return next((one.trouble, one.acute) for one in found if one.type == "DiskPressure")


def test_what_is_held_is_not_acute_and_a_disk_that_was_emptied_is_not_held() -> None:
    assert disk_pressure(0) == (True, True)
    assert disk_pressure(0, 15) == (True, False)
    assert disk_pressure(0, 15, 15, 15, 15) == (False, False)
    assert disk_pressure(0, 20) == (False, False)


def test_conntrack() -> None:
    assert not judged(conntrack.judge, (0, 0)).trouble
    assert not judged(conntrack.judge, (899, 1000)).trouble
    full = judged(conntrack.judge, (950, 1000), (10, 1000))
    assert full.trouble
    assert "950 of at most 1000" in full.message
    assert not judged(conntrack.judge, (950, 1000), *[(10, 1000)] * 13).trouble


def test_a_storm_is_several_kills_in_five_minutes() -> None:
    kill = ((0.0, "java (7)"),)
    assert not judged(oom.judge, kill, kill, ()).trouble
    storm = judged(oom.judge, kill, kill, kill, ())
    assert storm.trouble
    assert "java (7)" in storm.message
    assert not judged(oom.judge, kill, kill, kill, (), every=200.0).trouble
    assert not judged(oom.judge, tuple((400.0, "old (1)") for _ in range(9))).trouble


def error(disk: str = "sda", *, grave: bool = False, age: float = 0.0) -> disks.Reading:
    return disks.Reading(((age, disks.DiskError(disk, f"I/O error, dev {disk}", grave)),))


def test_one_lost_block_is_no_broken_disk_but_three_are_and_so_is_lasting_damage() -> None:
    assert not judged(disks.judge, error()).trouble
    assert not judged(disks.judge, error("sda"), error("sdb"), error("sdc")).trouble
    assert judged(disks.judge, error(), error(), error()).trouble
    assert judged(disks.judge, error(grave=True)).trouble
    assert not judged(disks.judge, error(grave=True, age=601.0)).trouble
    assert not judged(disks.judge, error(grave=True), disks.Reading(used=frozenset({"sdb"}))).trouble
    assert judged(disks.judge, error(grave=True), disks.Reading(used=frozenset({"sda"}))).trouble
    said = judged(disks.judge, error(grave=True), disks.Reading(failing=("sdb",)))
    assert (said.reason, "sdb" in said.message) == ("DiskFailing", True)


def test_a_read_only_file_system() -> None:
    assert not judged(filesystem.judge, filesystem.Reading()).trouble
    lost = filesystem.Reading(lost=("/data (/dev/sdb1)",))
    assert not judged(filesystem.judge, lost).trouble, "it may be somebody's stick"
    said = judged(filesystem.judge, lost, lost)
    assert said.trouble
    assert "/data (/dev/sdb1)" in said.message
    own = filesystem.Reading("cannot write in /var/lib/corral: Input/output error")
    assert judged(filesystem.judge, own, filesystem.Reading()).trouble
    assert not judged(filesystem.judge, own, filesystem.Reading(), every=61.0).trouble


def test_the_runtime_must_fail_twice_and_one_answer_is_enough() -> None:
    assert not judged(runtime.judge, "gone").trouble
    assert judged(runtime.judge, "gone", "gone").trouble
    assert not judged(runtime.judge, "gone", "gone", "").trouble
    assert not judged(runtime.judge, "gone", "", "gone").trouble


# Clocks.


@given(
    ahead=st.floats(-1e6, 1e6),
    server=st.floats(1e9, 2e9),
    there=st.floats(0.0, 3.0),
    back=st.floats(0.0, 3.0),
)
def test_a_range_holds_the_true_difference(ahead: float, server: float, there: float, back: float) -> None:
    """`server` is the server's time when it wrote the date, whole seconds of which it tells."""
    found = skew.offset(server - there + ahead, server + back + ahead, float(int(server)))
    assert found.least - 1e-3 <= ahead <= found.most + 1e-3
    assert abs(found.surely) <= abs(ahead) + 1e-3
    assert found.surely == 0 or (found.surely > 0) == (ahead > 0)


def test_a_clock_must_be_off_twice_in_a_row() -> None:
    off, fine = skew.Offset(119.0, 121.0), skew.Offset(-0.5, 0.6)
    assert judged(skew.judge, None).trouble is None
    assert judged(skew.judge, off).trouble is False
    assert judged(skew.judge, off, fine, off).trouble is False
    said = judged(skew.judge, off, None, off)
    assert said.trouble
    assert "119 s ahead of" in said.message
    assert "20 s behind" in judged(skew.judge, skew.Offset(-21.0, -20.0), skew.Offset(-21.0, -20.0)).message
    assert judged(skew.judge, off, off, fine, every=61.0).trouble is False
    assert judged(skew.judge, skew.Offset(-40.0, 40.0), skew.Offset(-40.0, 40.0)).trouble is False

"""Which data directory becomes a fleet, which does not, and why."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.agent.runtime.oci.state import boot_id
from corral.app import up
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.fleet import layout, power
from corral.app.fleet.failures import command as machine
from corral.app.fleet.opening import open_fleet
from corral.base.errors import CorralError


def run_up(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(up.command, ["--data-dir", str(directory), *arguments])


def test_a_directory_without_machines_is_no_fleet(tmp_path: Path) -> None:
    assert open_fleet(CellConfig(tmp_path), 0, {}) is None
    assert not (tmp_path / layout.FILE).exists()


def test_a_new_fleet_is_found_again_without_being_asked_for(tmp_path: Path) -> None:
    made = open_fleet(CellConfig(tmp_path), 2, {"cpu": 1000})
    assert made is not None
    assert made.count == 2
    assert open_fleet(CellConfig(tmp_path), 0, {}) == made
    grown = open_fleet(CellConfig(tmp_path), 4, {})
    assert grown is not None
    assert (grown.count, grown.subnet, grown.capacity) == (4, made.subnet, {"cpu": 1000})


def test_a_cell_whose_machine_is_this_one_does_not_become_a_fleet(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    done = run_up(tmp_path, "--machines", "2")
    assert done.exit_code == 1
    assert "cannot make a fleet in" in done.output
    assert "choose another --data-dir" in done.output
    assert not (tmp_path / layout.FILE).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--machines", "2", "--bind", "127.0.0.1"), "they reach the server at"),
        (("--machines", "2", "--capacity", "cpu=many"), "--capacity cpu=many"),
        (("--machines", "0"), "0 is not in the range"),
        (("--capacity", "cpu=2"), "--machines"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run_up(tmp_path, *arguments)
    assert done.exit_code in (1, 2)
    assert words in done.output


def test_failures_are_played_on_fleets_only(tmp_path: Path) -> None:
    for verb in ("kill", "partition", "freeze", "thaw", "heal"):
        done = CliRunner().invoke(machine, [verb, "m1", "--data-dir", str(tmp_path)])
        assert done.exit_code == 1
        assert "it has no machines of its own" in done.output


def test_a_killed_machine_is_off_until_it_is_allowed_or_the_real_one_boots(tmp_path: Path) -> None:
    fleet = open_fleet(CellConfig(tmp_path), 1, {})
    assert fleet is not None
    (one,) = fleet.machines
    prepare_data_dir(fleet.config)
    assert not power.is_off(one)
    mark = fleet.config.run_dir / "m1.killed"
    mark.write_text(boot_id())
    assert power.is_off(one)
    mark.write_text("another boot")
    assert not power.is_off(one)
    mark.write_text(boot_id())
    power.allow(one)
    assert not power.is_off(one)


def test_heal_is_refused_while_the_fleet_is_down(tmp_path: Path) -> None:
    fleet = open_fleet(CellConfig(tmp_path), 1, {})
    assert fleet is not None
    done = CliRunner().invoke(machine, ["heal", "m1", "--data-dir", str(tmp_path)])
    assert "the whole fleet is down" in done.output
    assert os.listdir(tmp_path) == [layout.FILE]


def test_a_broken_record_stops_up(tmp_path: Path) -> None:
    (tmp_path / layout.FILE).write_text("{")
    with pytest.raises(CorralError, match="cannot read"):
        open_fleet(CellConfig(tmp_path), 3, {})
    assert "cannot read" in run_up(tmp_path).output

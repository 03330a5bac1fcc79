"""A clock is wrong only where a test asks for it, by what the test says at the moment."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral.app.clock import FILE, WrongClock, process_clock

_LONG = timedelta(minutes=1)


def test_it_steps_while_it_runs_and_monotonic_time_does_not(tmp_path: Path) -> None:
    clock = WrongClock(tmp_path / FILE)
    began = clock.monotonic()
    assert abs(clock.now() - datetime.now(UTC)) < _LONG
    (tmp_path / FILE).write_text("-3600")
    assert abs(clock.now() + timedelta(hours=1) - datetime.now(UTC)) < _LONG
    (tmp_path / FILE).write_text("")
    assert abs(clock.now() - datetime.now(UTC)) < _LONG
    assert 0 <= clock.monotonic() - began < 60


def test_nobody_gets_a_wrong_clock_by_a_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_text("3600")
    monkeypatch.delenv("CORRAL_CLOCK_OFFSETS", raising=False)
    assert not isinstance(process_clock(tmp_path), WrongClock)
    monkeypatch.setenv("CORRAL_CLOCK_OFFSETS", "1")
    assert isinstance(process_clock(tmp_path), WrongClock)

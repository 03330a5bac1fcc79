"""The progress bar: on a terminal, after a while, and never on stdout."""

import sys
import time
from pathlib import Path

import pytest

from corral.cli.simulation import bar


def test_off_a_terminal_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with bar.bar("packing") as progress:
        progress(1, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("worth_it", "shown"), [(0.0, True), (60.0, False)])
def test_on_a_terminal_it_is_shown_when_it_takes_a_while(
    worth_it: float, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bar, "_WORTH_IT", worth_it)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with (tmp_path / "stderr").open("w+") as stderr:
        monkeypatch.setattr(stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stderr", stderr)
        with bar.bar("packing") as progress:
            progress(1, 4)
            deadline = time.monotonic() + 10
            while shown and not (tmp_path / "stderr").stat().st_size and time.monotonic() < deadline:
                stderr.flush()
        stderr.flush()
        text = (tmp_path / "stderr").read_text()
    assert ("packing" in text) is shown
    assert ("1/4" in text) is shown

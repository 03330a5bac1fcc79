"""What the documents say is still so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from corral.app.main import COMMANDS, cli

ROOT = Path(__file__).parents[3]


def blocks(path: Path) -> list[str]:
    """The console blocks of a document."""
    return re.findall(r"```console\n(.*?)```", path.read_text(), re.DOTALL)


def test_both_readmes_show_the_same_tour() -> None:
    english, korean = blocks(ROOT / "README.md"), blocks(ROOT / "README.ko.md")
    assert english == korean
    assert english


def test_the_readmes_know_every_command() -> None:
    for name in ("README.md", "README.ko.md"):
        text = (ROOT / name).read_text()
        missing = [command for command in COMMANDS if not re.search(rf"`[^`]*\b{command}\b[^`]*`", text)]
        assert not missing, f"{name} does not mention {missing}"


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")), ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_manual_page_is_that_of_the_commands(tmp_path: Path) -> None:
    # In a process of its own: click remembers of a command how it was called first.
    made = tmp_path / "corral.1"
    subprocess.run([sys.executable, ROOT / "tools" / "make_man.py", made], check=True)
    assert (ROOT / "docs" / "man" / "corral.1").read_text() == made.read_text(), "run `make man`"


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "src" / "corral").iterdir() if (path / "__init__.py").exists()]
    missing = [room for room in rooms if f"| `{room}` |" not in text]
    assert not missing, f"docs/architecture.md does not mention {missing}"


def test_the_simulators_document_shows_answers_of_today(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tables are those that the commands print; the numbers in them change whenever a profile is tuned."""
    files = {f"{name}.csv": str(ROOT / "examples" / "simulator" / f"{name}.csv") for name in ("machines", "workloads")}
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / "docs" / "simulator.md"):
        command, shown = block.removeprefix("$ corral ").split("\n", 1)
        if "compact" in command:
            continue  # takes a while
        result = CliRunner().invoke(cli, [files.get(word, word) for word in command.split()])
        assert result.exit_code in (0, 1), result.output
        assert headers(result.stdout) == headers(shown)


def headers(text: str) -> list[list[str]]:
    """The header lines of tables."""
    return [line.split() for line in text.splitlines() if line.isupper()]

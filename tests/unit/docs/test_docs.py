"""What the documents say is still so."""

import importlib.util
import re
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


def test_the_manual_page_is_that_of_the_commands() -> None:
    specification = importlib.util.spec_from_file_location("make_man", ROOT / "tools" / "make_man.py")
    assert specification is not None
    assert specification.loader is not None
    make_man = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(make_man)
    assert (ROOT / "docs" / "man" / "corral.1").read_text() == make_man.page(), "run `make man`"


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.name for path in (ROOT / "src" / "corral").iterdir() if (path / "__init__.py").exists()]
    missing = [room for room in rooms if f"| `{room}` |" not in text]
    assert not missing, f"docs/architecture.md does not mention {missing}"


def test_the_simulators_document_shows_what_it_says() -> None:
    """The commands that do not compare profiles: those change with every profile that is tuned."""
    shown = dict(block.removeprefix("$ corral ").split("\n", 1) for block in blocks(ROOT / "docs" / "simulator.md"))
    files = {f"{name}.csv": str(ROOT / "examples" / "simulator" / f"{name}.csv") for name in ("machines", "workloads")}
    for command, output in shown.items():
        if "profile" not in command and "compact" not in command and "policy" not in command:
            arguments = [files.get(word, word) for word in command.split()]
            assert CliRunner().invoke(cli, arguments).stdout == output

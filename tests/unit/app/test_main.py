"""The command's table, and one owner for a data directory."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from corral.app import main
from corral.app.config import CellConfig, prepare_data_dir
from corral.app.main import COMMANDS, cli
from corral.app.ports import check_port
from corral.app.process import AlreadyRuns, running_pid, sole_owner
from corral.base.errors import CorralError


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def test_a_typo_gets_a_hint() -> None:
    result = CliRunner().invoke(cli, ["statsu"])
    assert result.exit_code == 2
    assert "Did you mean 'status'?" in result.output


@pytest.mark.parametrize("traced", [True, False])
def test_a_defect_is_said_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], traced: bool
) -> None:
    def fail(**options: str) -> None:
        raise KeyError("spec")

    monkeypatch.setattr(main, "cli", fail)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: not traced, raising=False)
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr().err
    assert ended.value.code == 125
    assert " a defect of Corral: KeyError: 'spec'" in said
    assert "test_main.py" in said
    assert ("Traceback" in said) is traced


def test_help_imports_no_room() -> None:
    code = (
        "import sys; from corral.app.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'numpy', 'orjson', 'cryptography', 'yaml'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_data_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    config = CellConfig(tmp_path / "cell")
    prepare_data_dir(config)
    prepare_data_dir(config)
    (config.data_dir / "version").write_text("99\n")
    with pytest.raises(CorralError, match="version 99") as caught:
        prepare_data_dir(config)
    assert "upgrade Corral" in caught.value.remedy


def test_one_owner(tmp_path: Path) -> None:
    config = CellConfig(tmp_path / "cell")
    prepare_data_dir(config)
    assert running_pid(config) == 0
    with sole_owner(config):
        assert running_pid(config) == os.getpid()
        with pytest.raises(AlreadyRuns, match=str(os.getpid())), sole_owner(config):
            pass
    assert running_pid(config) == 0
    assert not config.pid_file.exists()


def test_a_stale_pid_file_means_nothing(tmp_path: Path) -> None:
    config = CellConfig(tmp_path / "cell")
    prepare_data_dir(config)
    config.pid_file.write_text("1\n")
    assert running_pid(config) == 0


def test_cells_are_told_apart(tmp_path: Path) -> None:
    assert CellConfig(tmp_path / "a").name != CellConfig(tmp_path / "b").name


def test_a_port_in_use_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = CellConfig(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(CorralError, match=f"port {config.port}: Address already in use") as caught:
            check_port(config)
    assert "--port" in caught.value.remedy
    assert check_port(config) == f"{config.port} is free"
    assert check_port(CellConfig(host="127.0.0.1", port=0)) == "any free one"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "https://127.0.0.1:1"),
        ("::", "https://127.0.0.1:1"),
        ("10.1.2.3", "https://10.1.2.3:1"),
        ("fd00::1", "https://[fd00::1]:1"),
    ],
)
def test_the_kubeconfig_names_an_address_that_is_listened_on(host: str, url: str) -> None:
    assert CellConfig(host=host).url(1) == url

"""A kubeconfig that knows several servers works while one of them answers."""

from pathlib import Path

import pytest
import yaml

from corral.apiserver.auth import kubeconfig
from corral.base.errors import CorralError
from corral.cli.session import connect
from corral.client.kubeconfig import load
from corral.kinds.resources import NAMESPACES

from .conftest import Cell

NOBODY = "https://127.0.0.1:1"


def written(cell: Cell, directory: Path, server: str, *servers: str) -> str:
    certificate, key = cell.pki.admin()
    path = directory / "kubeconfig"
    kubeconfig.write(path, server, cell.pki.ca_pem, certificate, key, "corral", servers=servers)
    return str(path)


async def test_a_command_goes_to_the_server_that_answers(
    cell: Cell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connect(written(cell, tmp_path, NOBODY, NOBODY, cell.url), None, None) as session:
        assert session.server == cell.url
        assert (await session.client.list(NAMESPACES))["items"]
    assert f"{NOBODY} does not answer; using {cell.url}" in capsys.readouterr().err


async def test_where_none_answers_the_one_that_is_named_is_to_blame(cell: Cell, tmp_path: Path) -> None:
    path = written(cell, tmp_path, NOBODY, NOBODY, "https://127.0.0.1:2")
    with pytest.raises(CorralError, match=NOBODY):
        async with connect(path, None, None) as session:
            await session.client.list(NAMESPACES)


def test_the_servers_are_an_extension_that_others_may_have_written_too(cell: Cell, tmp_path: Path) -> None:
    path = written(cell, tmp_path, cell.url, cell.url, NOBODY)
    assert load(path).others == (NOBODY,)
    document = yaml.safe_load(Path(path).read_text())
    cluster = document["clusters"][0]["cluster"]
    for extensions in (
        "x",
        [],
        [7],
        [{"name": "corral.dev/servers"}],
        [{"name": "corral.dev/servers", "extension": [7]}],
    ):
        cluster["extensions"] = extensions
        Path(path).write_text(yaml.safe_dump(document))
        assert load(path).others == ()
    assert "extensions" not in Path(written(cell, tmp_path, cell.url)).read_text()

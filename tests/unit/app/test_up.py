"""What a cell that is started again goes by."""

from pathlib import Path

import pytest

from corral.apiserver.auth import kubeconfig
from corral.app.config import DEFAULT_PORT
from corral.app.up import last_port


def test_a_cell_is_found_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    assert last_port(path) == DEFAULT_PORT
    kubeconfig.write(path, "https://127.0.0.1:7443", b"CA", b"CERTIFICATE", b"KEY", "corral", servers=())
    assert last_port(path) == 7443


@pytest.mark.parametrize("text", ["", "}", "clusters: 7", "\0"])
def test_a_kubeconfig_that_is_broken_keeps_no_cell_from_starting(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    assert last_port(path) == DEFAULT_PORT

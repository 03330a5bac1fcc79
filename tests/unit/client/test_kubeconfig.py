"""Kubeconfigs: where the API is, and errors that name the file and the field."""

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from corral.client.kubeconfig import KubeconfigError, load


def write(path: Path, **changes: Any) -> Path:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "cell", "cluster": {"server": "https://127.0.0.1:6443"}}],
        "users": [{"name": "me", "user": {"token": "secret"}}],
        "contexts": [{"name": "main", "context": {"cluster": "cell", "user": "me"}}],
        **changes,
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_reads_the_current_context(tmp_path: Path) -> None:
    access = load(write(tmp_path / "config"))
    assert (access.server, access.token, access.namespace) == ("https://127.0.0.1:6443", "secret", "default")
    assert "secret" not in repr(access)


def test_merges_the_files_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "one", clusters=[], users=[])
    two = write(
        tmp_path / "two",
        **{"current-context": "other"},
        contexts=[{"name": "other", "context": {"cluster": "cell", "user": "me", "namespace": "team"}}],
    )
    missing = tmp_path / "missing"
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, (missing, one, two))))
    assert load().context == "main"
    assert load(context="other").namespace == "team"


def test_certificates_as_data_and_as_files_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("CA")
    cluster = {"server": "https://h", "certificate-authority": "ca.crt", "tls-server-name": "kubernetes"}
    data = base64.b64encode(b"PEM").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    access = load(
        write(
            tmp_path / "config",
            clusters=[{"name": "cell", "cluster": cluster}],
            users=[{"name": "me", "user": user}],
        )
    )
    assert (access.ca_pem, access.certificate_pem, access.key_pem) == ("CA", "PEM", "PEM")
    assert access.server_name == "kubernetes"


def test_a_token_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    access = load(write(tmp_path / "config", users=[{"name": "me", "user": {"tokenFile": "token"}}]))
    assert access.token == "from-file"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current-context": "nope"}, "cannot find context 'nope', which current-context"),
        ({"current-context": ""}, "current-context is not set"),
        ({"clusters": []}, r"cannot find cluster 'cell', which contexts\[main\].context.cluster"),
        ({"users": []}, r"cannot find user 'me', which contexts\[main\].context.user"),
        ({"clusters": [{"name": "cell", "cluster": {}}]}, r"clusters\[cell\].cluster.server must be a URL"),
        ({"clusters": [{"cluster": {}}]}, r"clusters\[0\].name is missing"),
        (
            {"users": [{"name": "me", "user": {"client-certificate-data": "!"}}]},
            "client-certificate-data is not base64",
        ),
        ({"users": [{"name": "me", "user": {"client-certificate-data": "QQ=="}}]}, "client-key is missing"),
        ({"users": [{"name": "me", "user": {"tokenFile": "no"}}]}, r"users\[me\].user.tokenFile: cannot read"),
        ({"users": [{"name": "me", "user": {"exec": {"command": "x"}}}]}, "exec is not supported"),
    ],
)
def test_errors_name_the_field(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(KubeconfigError, match=words):
        load(write(tmp_path / "config", **changes))


def test_a_file_that_is_not_there_or_no_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KubeconfigError, match="No such file"):
        load(tmp_path / "missing")
    broken = tmp_path / "broken"
    broken.write_text("{a: [")
    with pytest.raises(KubeconfigError, match="it is not YAML"):
        load(broken)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(KubeconfigError, match="corral up"):
        load()


def test_unusable_certificates_are_named(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    access = load(write(tmp_path / "config", users=[{"name": "me", "user": user}]))
    with pytest.raises(KubeconfigError, match="client-certificate"):
        access.ssl_context()

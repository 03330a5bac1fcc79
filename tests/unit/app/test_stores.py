"""Which store an address means."""

from pathlib import Path

import pytest

from corral.app.stores import read_address
from corral.base.errors import CorralError
from corral.store.etcd.address import EtcdAddress


@pytest.mark.parametrize(
    ("text", "path"),
    [("", "/cell/store.db"), ("sqlite:///var/x.db", "/var/x.db"), ("sqlite:////var/x.db", "/var/x.db")],
)
def test_a_file(text: str, path: str) -> None:
    assert read_address(text, Path("/cell")) == Path(path)


def test_an_etcd() -> None:
    found = read_address("etcd://127.0.0.1:2379,127.0.0.1:2380", Path("/cell"))
    assert isinstance(found, EtcdAddress)
    assert str(found) == "etcd://127.0.0.1:2379,127.0.0.1:2380"


@pytest.mark.parametrize("text", ["sqlite://store.db", "store.db", "postgres://x", "etcd://"])
def test_what_makes_no_sense_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(CorralError) as refused:
        read_address(text, Path("/cell"))
    assert refused.value.remedy

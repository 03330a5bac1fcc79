"""Which servers a cell has, and which of them a machine goes by."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from corral.app.servers import known, told
from corral.base.clock import rfc3339_micro
from corral.kinds.servers import identity, leader, peers
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH

URLS = st.lists(st.sampled_from([f"https://10.0.0.{number}:6443" for number in range(6)]), unique=True)


def lease(url: str, ago: float) -> Obj:
    metadata = {
        "name": "apiserver-x",
        "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"},
        "annotations": {"corral.dev/url": url},
    }
    return {"metadata": metadata, "spec": {"renewTime": rfc3339_micro(EPOCH - timedelta(seconds=ago))}}


def test_servers_are_read_off_their_leases() -> None:
    manager: Obj = {"metadata": {"name": "corral-manager"}, "spec": {"renewTime": rfc3339_micro(EPOCH)}}
    found = peers([lease("https://b", 5), manager, lease("https://a", 90)])
    assert [(peer.url, peer.silent(EPOCH).total_seconds()) for peer in found] == [("https://a", 90), ("https://b", 5)]


def test_who_leads_is_read_off_the_managers_lease() -> None:
    assert leader([lease("https://a", 0)]) == ""
    manager: Obj = {"metadata": {"name": "corral-manager"}, "spec": {"holderIdentity": identity("https://a", "0f")}}
    assert leader([lease("https://b", 0), manager]) == "https://a"
    manager["spec"]["holderIdentity"] = None
    assert leader([manager]) == ""


def test_the_list_is_read_as_it_is_published() -> None:
    assert told({"data": {"server": "https://a", "servers": "https://a\nhttps://b"}}) == ("https://a", "https://b")
    assert told({"data": {"server": "https://a"}}) == ("https://a",)
    assert told({}) == ()


def test_the_only_server_is_known_by_the_address_that_works() -> None:
    assert known(["https://10.0.0.1:6443"], "https://cell.example:6443", "m1") == ("https://cell.example:6443",)


@given(URLS, st.sampled_from(["https://10.0.0.1:6443", "https://cell.example:6443"]))
def test_every_server_is_known_once_and_the_one_that_was_reached_first(servers: list[str], reached: str) -> None:
    found = known(servers, reached, "m1")
    assert found[0] == reached
    assert len(set(found)) == len(found)
    if len(servers) > 1:
        assert set(found) == {reached, *servers}


def test_machines_of_a_server_that_dies_go_to_different_ones() -> None:
    servers = [f"https://10.0.0.{number}:6443" for number in range(4)]
    second = {known(servers, servers[0], f"m{number}")[1] for number in range(30)}
    assert second == set(servers[1:])

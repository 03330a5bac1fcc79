"""An older Corral's roles get what they lack, and keep what somebody has added."""

from typing import Any

import pytest

from corral.apiserver.auth import bootstrap
from corral.apiserver.auth.bootstrap.build import account, allow, cluster_binding, cluster_role, group
from corral.apiserver.auth.bootstrap.reconcile import AUTOUPDATE, lacking

GET, PATCH, OWN = allow("get", "nodes"), allow("patch", "nodes"), allow("delete", "nodes")


def test_what_is_missing_is_added_and_what_was_added_stays() -> None:
    assert lacking(cluster_role("r", [GET, PATCH]), cluster_role("r", [OWN, GET])) == {"rules": [OWN, GET, PATCH]}
    wanted, found = cluster_binding("b", "r", group("a"), account("n", "x")), cluster_binding("b", "r", group("a"))
    assert lacking(wanted, found) == {"subjects": [group("a"), account("n", "x")]}


def test_an_object_that_somebody_keeps_for_himself_is_left_alone() -> None:
    found = cluster_role("r", [])
    found["metadata"]["annotations"][AUTOUPDATE] = "false"
    assert lacking(cluster_role("r", [GET]), found) is None
    del found["metadata"]["annotations"]
    assert lacking(cluster_role("r", [GET]), found) is None


@pytest.mark.parametrize("obj", bootstrap.objects(), ids=lambda obj: f"{obj['kind']} {obj['metadata']['name']}")
def test_what_a_cell_begins_with_lacks_nothing(obj: Any) -> None:
    assert lacking(obj, obj) is None

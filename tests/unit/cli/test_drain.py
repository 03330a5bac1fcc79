"""Who leaves a machine that is drained, and who must not without a word."""

from typing import Any

from corral.cli.drain import choose
from corral.kinds.types import Obj


def pod(name: str, owner: str = "ReplicaSet", phase: str = "Running", **spec: Any) -> Obj:
    metadata: Obj = {"name": name, "namespace": "default", "uid": name}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner, "name": "o", "uid": "o", "controller": True}]
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase}}


def names(pods: tuple[Obj, ...]) -> list[str]:
    return [one["metadata"]["name"] for one in pods]


def test_daemons_stay() -> None:
    found = choose([pod("a"), pod("d", "DaemonSet")], force=False, delete_local=False)
    assert (names(found.leave), names(found.stay), found.refused) == (["a"], ["d"], ())


def test_what_nothing_starts_again_needs_force() -> None:
    found = choose([pod("a", "")], force=False, delete_local=False)
    assert "default/a" in found.refused[0]
    assert "--force" in found.refused[0]
    assert names(choose([pod("a", "")], force=True, delete_local=False).leave) == ["a"]


def test_data_that_would_be_lost_needs_a_word() -> None:
    one = pod("a", volumes=[{"name": "scratch", "emptyDir": {}}])
    assert "--delete-emptydir-data" in choose([one], force=True, delete_local=False).refused[0]
    assert choose([one], force=False, delete_local=True).refused == ()


def test_pods_that_ended_leave_without_questions() -> None:
    ended = pod("a", "", "Succeeded", volumes=[{"name": "scratch", "emptyDir": {}}])
    found = choose([ended], force=False, delete_local=False)
    assert (names(found.leave), found.refused) == (["a"], ())

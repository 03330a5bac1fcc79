from datetime import UTC, datetime

from corral.kinds import conditions, owners
from corral.kinds.types import Obj

EARLY = datetime(2030, 1, 1, tzinfo=UTC)
LATE = datetime(2030, 1, 2, tzinfo=UTC)


def test_transition_time_moves_only_with_the_status() -> None:
    obj: Obj = {}
    assert conditions.set_condition(obj, "Ready", "False", now=EARLY, reason="Starting", message="not yet")
    assert conditions.set_condition(obj, "Ready", "False", now=LATE, reason="Slow")
    assert conditions.get(obj, "Ready") == {
        "type": "Ready",
        "status": "False",
        "reason": "Slow",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    }
    assert not conditions.set_condition(obj, "Ready", "False", now=LATE, reason="Slow")
    assert conditions.set_condition(obj, "Ready", "True", now=LATE, observedGeneration=2)
    assert conditions.is_true(obj, "Ready")
    assert conditions.get(obj, "Ready") == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 2,
        "lastTransitionTime": "2030-01-02T00:00:00Z",
    }


def test_missing_and_removed() -> None:
    obj: Obj = {"status": {"conditions": None}}
    assert conditions.get(obj, "Ready") is None
    assert not conditions.is_true(obj, "Ready")
    assert not conditions.remove(obj, "Ready")
    conditions.set_condition(obj, "Ready", "True", now=EARLY)
    assert conditions.remove(obj, "Ready")
    assert obj["status"]["conditions"] == []


def test_owner_references() -> None:
    owner: Obj = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs", "uid": "u1"}}
    obj: Obj = {"metadata": {"ownerReferences": [owners.owner_reference({**owner, "kind": "Other"})]}}
    assert owners.controller_of(obj) is None
    assert not owners.is_controlled_by(obj, owner)
    obj["metadata"]["ownerReferences"].append(owners.controller_reference(owner))
    assert owners.controller_of(obj) == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "rs",
        "uid": "u1",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    assert owners.is_controlled_by(obj, owner)
    assert owners.owners_of({"metadata": {}}) == []

"""Who leaves a machine, who stays and why, and whose work went where."""

from typing import Any

from corral.fleet.moves import Whereabouts, followed, found, leaving
from corral.kinds.types import Key, Obj

OPENED = "2026-01-01T00:00:10Z"
BEFORE, AFTER = "2026-01-01T00:00:00Z", "2026-01-01T00:00:11Z"


def pod(name: str, machine: str = "m1", kind: str = "ReplicaSet", created: str = BEFORE, **more: Any) -> Obj:
    owner = {"kind": kind, "name": "web", "uid": "web", "controller": True}
    metadata: Obj = {"name": name, "namespace": "d", "uid": f"uid-{name}-{machine}", "creationTimestamp": created}
    metadata |= {"ownerReferences": [owner]} if kind else {}
    return {"metadata": metadata | more.pop("metadata", {}), "spec": {"nodeName": machine, **more}, "status": {}}


def names(pods: list[Obj]) -> list[str]:
    return [one["metadata"]["name"] for one in pods]


def test_daemons_bare_pods_ended_pods_and_those_with_data_here_stay() -> None:
    claim: Obj = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}
    elsewhere: Obj = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "remote"}}]}
    ended = pod("ended")
    ended["status"] = {"phase": "Succeeded"}
    mirror = pod("mirror", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}})
    pods = [
        *(pod("goes"), pod("daemon", kind="DaemonSet"), pod("bare", kind=""), ended, mirror),
        *(pod("pinned", **claim), pod("free", **elsewhere)),
    ]
    assert names(leaving(pods, {Key("d", "data")}, silent=False)) == ["goes", "free"]
    assert [move.pod for move in found(pods)] == ["bare", "free", "goes", "pinned"]


def test_of_a_silent_machine_those_leave_that_do_not_bear_it_for_ever() -> None:
    toleration = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    bears: Obj = {"tolerations": [toleration]}
    assert names(leaving([pod("a"), pod("b", **bears)], set(), silent=True)) == ["a"]


def where(here: list[Obj], managed: list[Obj]) -> Whereabouts:
    return Whereabouts("m1", OPENED, here, lambda uid: managed if uid == "web" else [])


def test_each_pod_has_an_heir_of_its_own_and_old_ones_are_nobodys() -> None:
    moves = found([pod("a"), pod("b"), pod("c")])
    old, first, second = pod("old", "m2"), pod("x", "m2", created=AFTER), pod("y", "m3", created=AFTER)
    waits = pod("waits", "", created=AFTER)
    moved = followed(moves, where([pod("c")], [pod("c"), old, first, second, waits]), "now")
    assert [(one.pod, one.left, one.to_machine, one.to_pod) for one in moved] == [
        ("a", "now", "m2", "x"),
        ("b", "now", "m3", "y"),
        ("c", "", "", ""),
    ]
    assert followed(moved, where([pod("c")], [pod("c"), old, first, second]), "later") == moved


def test_an_ordinal_is_inherited_by_its_namesake() -> None:
    moves = found([pod("db-0", kind="StatefulSet"), pod("db-1", kind="StatefulSet")])
    heirs = [pod("db-1", "m2", "StatefulSet", AFTER), pod("db-0", "m3", "StatefulSet", AFTER)]
    moved = followed(moves, where([], heirs), "now")
    assert [(one.pod, one.to_pod, one.to_machine) for one in moved] == [("db-0", "db-0", "m3"), ("db-1", "db-1", "m2")]


def test_a_pod_that_ended_or_is_being_deleted_has_left() -> None:
    ended, going = pod("a"), pod("b", metadata={"deletionTimestamp": AFTER})
    moves = found([ended, going])
    ended["status"] = {"phase": "Failed"}
    assert [one.left for one in followed(moves, where([ended, going], []), "now")] == ["now", "now"]


def test_of_very_many_pods_the_first_are_followed() -> None:
    assert len(found([pod(f"p{index}") for index in range(1000)])) == 200

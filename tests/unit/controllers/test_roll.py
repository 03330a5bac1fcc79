"""Pods of ReplicaSets, kept sorted while they change."""

from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from corral.client.informer import Event, Informer
from corral.controllers.replicasets.roll import Rolls, divide, sorted_out
from corral.kinds.selectors import LabelSelector
from corral.kinds.types import Key, Obj, key_of

_NAMES = ("p", "q", "r")


def pod(name: str, owner: str, labels: dict[str, str], phase: str, *, ready: bool, leaving: bool) -> Obj:
    reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": True}
    metadata: dict[str, Any] = {"name": name, "namespace": "n", "labels": labels}
    if owner:
        metadata["ownerReferences"] = [reference | ({"kind": "Job"} if owner == "job" else {})]
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "conditions": conditions}}


_PODS = st.builds(
    pod,
    st.sampled_from(_NAMES),
    st.sampled_from(["a", "b", "job", ""]),
    st.sampled_from([{"x": "1"}, {"x": "2"}]),
    st.sampled_from(["Pending", "Running", "Failed"]),
    ready=st.booleans(),
    leaving=st.booleans(),
)


class _Pods:
    """What Rolls needs of an informer; the last state of what is deleted is news, as it may be for a real one."""

    def __init__(self) -> None:
        self.there: dict[Key, Obj] = {}
        self._handlers: list[Callable[[Event], None]] = []

    def on_event(self, handler: Callable[[Event], None]) -> None:
        self._handlers.append(handler)

    def change(self, pod: Obj, *, delete: bool) -> None:
        key = key_of(pod)
        old = self.there.pop(key, None)
        if not delete:
            self.there[key] = pod
            event = Event("added" if old is None else "updated", key, old, pod)
        elif old is None:
            return
        else:
            event = Event("deleted", key, pod, None)
        for handler in self._handlers:
            handler(event)


@given(st.lists(st.tuples(_PODS, st.booleans()), max_size=20))
def test_rolls_are_what_sorting_all_pods_would_give(changes: list[tuple[Obj, bool]]) -> None:
    pods = _Pods()
    rolls = Rolls(cast(Informer, pods))
    for changed, delete in changes:
        pods.change(changed, delete=delete)
        for owner in ("a", "b"):
            mine = [
                one
                for one in pods.there.values()
                for reference in one["metadata"].get("ownerReferences", ())
                if (reference["kind"], reference["uid"]) == ("ReplicaSet", owner)
            ]
            assert rolls.of(owner) == sorted_out(mine)
        assert rolls.of("job") == {}
    for name in _NAMES:
        pods.change(pod(name, "", {}, "Running", ready=True, leaving=False), delete=True)
    assert (rolls._rolls, rolls._places) == ({}, {})


def test_what_the_selector_does_not_match_is_looked_at_one_by_one() -> None:
    owner: Obj = {"metadata": {"name": "a", "uid": "a", "namespace": "n"}}
    same = pod("p", "a", {"x": "1"}, "Running", ready=True, leaving=False)
    other = pod("q", "a", {"x": "2"}, "Running", ready=True, leaving=False)
    stranger = pod("r", "a", {"x": "1"}, "Running", ready=True, leaving=False)
    stranger["metadata"]["namespace"] = "elsewhere"
    selector = LabelSelector.from_object({"matchLabels": {"x": "1"}})
    held, others = divide(owner, selector, sorted_out([same, other, stranger]))
    assert [list(pods.values()) for pods in held.values()] == [[same]]
    assert others == [other]
    owner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    held, others = divide(owner, selector, sorted_out([same, other]))
    assert (len(held), others) == (2, [])

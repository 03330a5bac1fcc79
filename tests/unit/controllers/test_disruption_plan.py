"""How many pods may go, by the cases of Kubernetes' disruption controller."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.disruption.plan import Verdict, judge
from corral.kinds import conditions
from corral.kinds.types import Obj

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(name: str, *, ready: bool = True, owner: str = "web", deleted: bool = False) -> Obj:
    metadata: Obj = {"name": name, "namespace": "default", "labels": {"owner": owner}}
    if deleted:
        metadata["deletionTimestamp"] = rfc3339(NOW)
    state = {"type": "Ready", "status": "True" if ready else "False"}
    return {"metadata": metadata, "status": {"phase": "Running", "conditions": [state]}}


def budget(status: Obj | None = None, **spec: Any) -> Obj:
    return {"metadata": {"name": "b", "namespace": "default", "generation": 3}, "spec": spec, "status": status or {}}


def verdict(wanted: Obj, pods: Sequence[Obj], **sizes: int) -> Verdict:
    def expected(one: Obj) -> tuple[str, int] | None:
        owner = one["metadata"]["labels"]["owner"]
        return (owner, sizes[owner]) if owner in sizes else None

    return judge(wanted, pods, expected, NOW)


@pytest.mark.parametrize(
    ("spec", "healthy", "unhealthy", "size", "allowed", "desired"),
    [
        ({"minAvailable": 2}, 3, 0, 3, 1, 2),
        ({"minAvailable": 2}, 2, 1, 3, 0, 2),
        ({"minAvailable": 5}, 3, 0, 3, 0, 5),
        ({}, 3, 0, 3, 2, 1),
        ({"minAvailable": "50%"}, 3, 0, 3, 1, 2),
        ({"minAvailable": "100%"}, 3, 0, 3, 0, 3),
        ({"maxUnavailable": 1}, 3, 0, 3, 1, 2),
        ({"maxUnavailable": 1}, 2, 1, 3, 0, 2),
        ({"maxUnavailable": "30%"}, 7, 0, 7, 3, 4),
        ({"maxUnavailable": 9}, 3, 0, 3, 3, 0),
        # The rollout is not done: seven of ten are there, and none of them may go.
        ({"maxUnavailable": "30%"}, 7, 0, 10, 0, 7),
    ],
)
def test_counts(spec: Obj, healthy: int, unhealthy: int, size: int, allowed: int, desired: int) -> None:
    pods = [pod(f"p{number}", ready=number < healthy) for number in range(healthy + unhealthy)]
    status = verdict(budget(**spec), pods, web=size).status
    assert (status["disruptionsAllowed"], status["desiredHealthy"]) == (allowed, desired)
    assert status["currentHealthy"] == healthy
    assert status["observedGeneration"] == 3
    condition = conditions.get({"status": status}, "DisruptionAllowed")
    assert condition is not None
    assert condition["status"] == str(allowed > 0)
    assert condition["reason"] == ("SufficientPods" if allowed else "InsufficientPods")


def test_several_owners_count_once_each() -> None:
    pods = [pod("a1", owner="a"), pod("a2", owner="a"), pod("b1", owner="b")]
    status = verdict(budget(maxUnavailable=1), pods, a=2, b=1).status
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (3, 1)


def test_pods_that_nothing_manages_count_for_a_number_only() -> None:
    pods = [pod("a", owner="none"), pod("b", owner="none")]
    assert verdict(budget(minAvailable=1), pods).status["disruptionsAllowed"] == 1
    by_share = verdict(budget(maxUnavailable=1), pods)
    assert by_share.status["disruptionsAllowed"] == 0
    assert by_share.unmanaged == ("a", "b")


def test_an_allowed_eviction_counts_until_it_is_seen_or_too_old() -> None:
    fresh, old = rfc3339(NOW - timedelta(seconds=20)), rfc3339(NOW - timedelta(seconds=121))
    told = {"disruptedPods": {"p0": fresh, "p1": old, "gone": fresh}}
    found = verdict(budget(told, minAvailable=1), [pod("p0"), pod("p1"), pod("p2")], web=3)
    assert found.status["disruptedPods"] == {"p0": fresh}
    assert found.status["currentHealthy"] == 2
    assert found.look_again == pytest.approx(100.0)
    deleted = verdict(budget(told, minAvailable=1), [pod("p0", deleted=True), pod("p2")], web=3)
    assert "disruptedPods" not in deleted.status
    assert deleted.status["currentHealthy"] == 1


def test_what_cannot_be_read_allows_nothing() -> None:
    found = verdict(budget({"disruptionsAllowed": 4}, maxUnavailable="many"), [pod("p")], web=1)
    assert found.status["disruptionsAllowed"] == 0
    assert "many" in found.problem


@given(
    st.lists(st.booleans(), max_size=20),
    st.one_of(
        st.integers(0, 20).map(lambda count: {"minAvailable": count}),
        st.integers(0, 100).map(lambda share: {"minAvailable": f"{share}%"}),
        st.integers(0, 100).map(lambda share: {"maxUnavailable": f"{share}%"}),
    ),
)
def test_disrupting_what_is_allowed_leaves_what_is_desired(ready: list[bool], spec: Obj) -> None:
    pods = [pod(f"p{number}", ready=state) for number, state in enumerate(ready)]
    status = verdict(budget(**spec), pods, web=len(pods)).status
    allowed = status["disruptionsAllowed"]
    assert 0 <= allowed <= sum(ready)
    if allowed:
        assert sum(ready) - allowed == status["desiredHealthy"]

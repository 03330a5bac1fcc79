"""When pods leave tainted machines."""

from datetime import timedelta
from typing import Any

import pytest

from corral.base.clock import rfc3339
from corral.controllers.tainteviction.plan import leaves_in
from corral.kinds.types import Obj
from corral.testing.clock import EPOCH

AWAY = "node.kubernetes.io/unreachable"


def node(*keys: str, effect: str = "NoExecute", ago: float = 0) -> Obj:
    added = rfc3339(EPOCH - timedelta(seconds=ago))
    return {"spec": {"taints": [{"key": key, "effect": effect, "timeAdded": added} for key in keys]}}


def pod(*tolerations: Obj, **status: Any) -> Obj:
    return {"metadata": {"name": "p"}, "spec": {"tolerations": list(tolerations)}, "status": status}


def bears(key: str, seconds: int | None = None) -> Obj:
    found: Obj = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return found if seconds is None else {**found, "tolerationSeconds": seconds}


@pytest.mark.parametrize(
    ("machine", "one", "seconds"),
    [
        (node(), pod(), None),
        (node(AWAY), pod(), 0.0),
        (node(AWAY, effect="NoSchedule"), pod(), None),
        (node(AWAY), pod(bears(AWAY)), None),
        (node(AWAY), pod(bears(AWAY, 300)), 300.0),
        (node(AWAY, ago=100), pod(bears(AWAY, 300)), 200.0),
        (node(AWAY, ago=400), pod(bears(AWAY, 300)), 0.0),
        (node(AWAY), pod(bears(AWAY, -5)), 0.0),
        (node(AWAY, "mine"), pod(bears(AWAY, 300)), 0.0),
        (node(AWAY, "mine"), pod(bears(AWAY, 300), bears("mine", 20)), 20.0),
        (node(AWAY, "mine"), pod(bears(AWAY), bears("mine", 20)), 20.0),
        # The first toleration that matches decides, as in Kubernetes.
        (node(AWAY), pod(bears(AWAY, 10), bears(AWAY)), 10.0),
        (node(AWAY), pod({"operator": "Exists"}), None),
        (node(AWAY), pod(phase="Succeeded"), None),
    ],
)
def test_time_left(machine: Obj, one: Obj, seconds: float | None) -> None:
    assert leaves_in(one, machine, EPOCH) == seconds


def test_a_pod_that_is_leaving_already_is_left_alone() -> None:
    one = pod()
    one["metadata"]["deletionTimestamp"] = rfc3339(EPOCH)
    assert leaves_in(one, node(AWAY), EPOCH) is None


def test_a_taint_that_does_not_say_when_counts_from_now() -> None:
    machine = node(AWAY)
    del machine["spec"]["taints"][0]["timeAdded"]
    assert leaves_in(pod(bears(AWAY, 7)), machine, EPOCH) == 7.0

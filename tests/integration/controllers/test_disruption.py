"""Budgets and evictions through a real API."""

from typing import Any

import pytest

from corral.kinds.resources import DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj


def deployment(replicas: int) -> Obj:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "v1"}]}}
    return {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def budget(**spec: Any) -> Obj:
    return {
        "kind": "PodDisruptionBudget",
        "apiVersion": "policy/v1",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def allows(number: int) -> Any:
    return lambda obj: (obj.get("status") or {}).get("disruptionsAllowed") == number


async def evict(cell: Any, name: str) -> None:
    eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name, "namespace": "default"}}
    await cell.client.create_subresource(PODS, name, "default", "eviction", eviction)


async def test_evictions_go_by_the_budget(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment(3))
    await cell.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(1))
    # Replacements do not become ready: the budget stays used up.
    cell.kubelet.starts = lambda pod: False
    first, second, _ = (await cell.client.list(PODS, "default"))["items"]
    await evict(cell, first["metadata"]["name"])
    with pytest.raises(StatusError) as refused:
        await evict(cell, second["metadata"]["name"])
    assert refused.value.code == 429
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(0))
    status = (await cell.client.get(POD_DISRUPTION_BUDGETS, "web", "default"))["status"]
    assert (status["expectedPods"], status["desiredHealthy"]) == (3, 2)


async def test_a_pod_that_does_not_work_may_go_while_enough_others_do(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment(3))
    await cell.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(1))
    first, second, _ = (await cell.client.list(PODS, "default"))["items"]
    broken = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await cell.client.patch(PODS, first["metadata"]["name"], broken, "default", subresource="status")
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(0))
    with pytest.raises(StatusError):
        await evict(cell, second["metadata"]["name"])
    await evict(cell, first["metadata"]["name"])


async def test_scaling_changes_what_may_go(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment(4))
    await cell.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable="50%"))
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(2))
    await cell.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 2}}, "default", subresource="scale")
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(1))

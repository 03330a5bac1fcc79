"""A machine is emptied as budgets allow, through a real API."""

from typing import Any

import pytest

from corral.base.errors import CorralError
from corral.cli.drain import Drain
from corral.kinds.resources import DEPLOYMENTS, NODES, POD_DISRUPTION_BUDGETS, PODS

from .test_disruption import allows, budget, deployment


async def test_pods_move_one_by_one_and_no_more_are_away_than_the_budget_allows(cell: Any) -> None:
    await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "m2"}})
    await cell.client.create(DEPLOYMENTS, deployment(3))
    await cell.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
    await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(1))
    cell.kubelet.machine = "m2"
    pods = (await cell.client.list(PODS, "default"))["items"]
    said: list[str] = []

    async def pause(seconds: float) -> None:
        """Until one more may go, instead of for a time."""
        await cell.until(POD_DISRUPTION_BUDGETS, "web", allows(1))

    await Drain(cell.client, said.append, pause=pause).run(pods, None)
    assert sum("has left" in line for line in said) == 3
    assert any("waits: Cannot evict pod" in line for line in said)
    await cell.until_list(PODS, lambda items: {pod["spec"].get("nodeName") for pod in items} == {"m2"})


async def test_giving_up_names_who_is_still_there(cell: Any) -> None:
    await cell.client.create(DEPLOYMENTS, deployment(1))
    await cell.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable=1))
    await cell.until(POD_DISRUPTION_BUDGETS, "web", lambda obj: obj.get("status", {}).get("currentHealthy") == 1)
    pods = (await cell.client.list(PODS, "default"))["items"]
    with pytest.raises(CorralError, match=pods[0]["metadata"]["name"]):
        await Drain(cell.client, lambda line: None).run(pods, 0.05)

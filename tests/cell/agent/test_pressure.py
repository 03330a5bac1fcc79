"""A machine with less memory than its pods take: who takes most must go, who keeps to what it asked for stays."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from corral.agent import machine as facts
from corral.kinds.resources import NODES

_MIB = 1 << 20
_GROW = "import time; held = bytearray({} << 20); time.sleep(1000)"


@pytest.fixture
async def small_cell(open_cell: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A cell on a machine of 400 MiB, of which pods may have 144."""
    monkeypatch.setattr(facts, "_memory", lambda: 400 * _MIB)
    async with open_cell() as opened:
        yield opened
        await opened.delete_all()


async def test_a_pod_that_takes_the_machines_memory_is_evicted(small_cell: Any) -> None:
    asked = {"resources": {"requests": {"memory": "60Mi"}}}
    await small_cell.pod("modest", "python3", "-c", _GROW.format(30), container=asked)
    await small_cell.until("modest", lambda status: status.get("phase") == "Running")
    await small_cell.pod("greedy", "python3", "-c", _GROW.format(170))
    evicted = await small_cell.until("greedy", lambda status: status.get("phase") == "Failed")
    status = evicted["status"]
    assert status["reason"] == "Evicted"
    assert "low on resource: memory. Threshold quantity: 100Mi, available: 0. " in status["message"]
    assert "Container main was using" in status["message"]
    await small_cell.ended("greedy")
    node = await small_cell.admin.get(NODES, "m1")
    held = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert held["MemoryPressure"] == "True"
    modest = await small_cell.until("modest", lambda status: True)
    assert modest["status"]["phase"] == "Running"

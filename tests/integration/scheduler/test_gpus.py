"""GPUs through a real API server: which devices a pod got stands on the pod, and the next scheduler goes by it."""

import asyncio
import random
from typing import Any

from corral.base.clock import SystemClock
from corral.kinds.accelerators import DEVICES_ANNOTATION, FRACTION_ANNOTATION, GPU_MILLI
from corral.kinds.resources import PODS
from corral.kinds.types import Obj
from corral.scheduler.scheduler import Scheduler
from corral.testing.scheduling import node, pod
from corral.testing.scheduling_cell import Cell, is_bound

GPU = "nvidia.com/gpu"


def asking(name: str, resource: str, amount: str, **spec: Any) -> Obj:
    made = pod(name, **spec)
    made["spec"]["containers"][0]["resources"] = {"limits": {resource: amount}}
    return made


async def devices(cell: Cell, name: str) -> str:
    found = await cell.until(name, is_bound)
    return str(found["metadata"]["annotations"][DEVICES_ANNOTATION])


async def test_devices_are_written_and_a_new_scheduler_reads_them(cell: Cell) -> None:
    await cell.add(node("a", extra={GPU: "4"}), node("b"))
    first = asyncio.create_task(Scheduler(cell.client, clock=SystemClock(), rng=random.Random(1)).run())
    fraction = pod("fraction")
    fraction["metadata"]["annotations"] = {FRACTION_ANNOTATION: "0.5"}
    await cell.add(asking("part", GPU_MILLI, "300"))
    assert await devices(cell, "part") == "0"
    await cell.add(fraction)
    assert await devices(cell, "fraction") == "0"
    await cell.add(asking("whole", GPU, "2"))
    assert await devices(cell, "whole") == "1,2"
    first.cancel()
    await asyncio.wait([first])
    await cell.client.delete(PODS, "part", "default", grace=0)
    scheduler = await cell.schedule()
    await cell.add(asking("large", GPU_MILLI, "600"))
    assert await devices(cell, "large") == "3"
    await cell.add(asking("last", GPU_MILLI, "500"))
    assert await devices(cell, "last") == "0"
    await cell.add(asking("late", GPU, "1"))
    lack = "Insufficient nvidia.com/gpu"
    await cell.refused("late", f"0/2 nodes are available: 2 {lack}.")
    machines = {found["name"]: found for found in scheduler.why("default", "late")["machines"]}
    assert machines["a"]["reasons"] == [lack]
    assert machines["b"]["reasons"] == [lack]
    await cell.client.delete(PODS, "whole", "default", grace=0)
    assert await devices(cell, "late") == "1"


async def test_a_pod_that_asks_for_nonsense_is_told(cell: Cell) -> None:
    await cell.add(node("a", extra={GPU: "4"}))
    await cell.schedule()
    await cell.add(asking("much", GPU_MILLI, "1500"))
    event = await cell.event("much", "FailedScheduling")
    assert "corral.dev/gpu-milli: 1500: at most 1000" in event["message"]

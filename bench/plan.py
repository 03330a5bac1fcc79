"""How long others wait while a plan is made: the steps of the event loop during `corral plan` on a large cell.

    python bench/plan.py [--machines N] [--placed N] [--pods N] [--json]

The cell is a real API server over a store in memory and a live scheduler; its placed pods, of 1,000 services, are put
into the scheduler's snapshot directly. One Deployment that fits and one that does not are planned together. A step is
what the loop does between two turns of a task that never sleeps; its milliseconds are those of CPU, so that what else
the machine does counts little.
"""

import argparse
import asyncio
import json
import time

import uvloop

from corral.base import memory
from corral.kinds.resources import NODES
from corral.kinds.types import Key, Obj
from corral.scheduler.planner import Planner
from corral.scheduler.scheduler import Scheduler
from corral.testing.scheduling_cell import Cell, scheduling_cell
from scheduler import everyday, node_of


def deployment(name: str, replicas: int, cpu: str) -> Obj:
    """A workload of pods that keep to themselves."""
    labels = {"app": name}
    container = {"name": "main", "image": "host", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name}, "spec": spec}


async def fill(cell: Cell, scheduler: Scheduler, machines: int, placed: int) -> None:
    """Machines, through the API, and pods on them."""
    for number in range(machines):
        await cell.client.create(NODES, {"kind": "Node", "apiVersion": "v1", **node_of(number)})
    await scheduler._nodes.reached(cell.server.core.store.revision)
    snapshot = scheduler._snapshot
    for number in range(placed):
        pod = everyday(number)
        node = f"node-{number % machines}"
        snapshot.place(Key("default", f"pod-{number}"), snapshot.classify(pod, placed=True), node)


async def turns(steps: list[float]) -> None:
    """Note what the loop does between two turns of this task, in milliseconds of CPU."""
    before = time.thread_time()
    while True:
        await asyncio.sleep(0)
        now = time.thread_time()
        steps.append((now - before) * 1e3)
        before = now


async def measure(options: argparse.Namespace) -> dict[str, float]:
    """One plan."""
    async with scheduling_cell() as cell:
        scheduler = await cell.schedule()
        await fill(cell, scheduler, options.machines, options.placed)
        memory.settle()
        planner = Planner(scheduler, cell.client)
        objects = [deployment("fits", options.pods - 100, "100m"), deployment("large", 100, "64")]
        steps: list[float] = []
        watching = asyncio.create_task(turns(steps))
        await asyncio.sleep(0)
        started = time.thread_time()
        made = await planner.plan(objects, "default", cell.client)
        seconds = time.thread_time() - started
        watching.cancel()
    if [one["placed"] for one in made["workloads"]] != [options.pods - 100, 0]:
        raise RuntimeError("the plan is not what was expected")
    # A turn in which nothing was to be done is none that anybody waits for.
    long = sorted(step for step in steps if step > 0.1)
    names = ("step p50 ms", "step p99 ms", "longest step ms", "steps", "seconds")
    return dict(
        zip(names, (long[len(long) // 2], long[len(long) * 99 // 100], long[-1], len(long), seconds), strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=10_000, metavar="N")
    parser.add_argument("--placed", type=int, default=100_000, metavar="N", help="pods that are there")
    parser.add_argument("--pods", type=int, default=10_000, metavar="N", help="pods to plan")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = uvloop.run(measure(options))
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<24}{figure:>12,.1f}")


if __name__ == "__main__":
    main()

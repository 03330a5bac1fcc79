"""A cell of many machines: what its server needs, how fast it answers meanwhile, and how soon a dead machine's pods run
elsewhere.

`corral up --no-agent` with its durable store is one process, the machines are others: hollow ones
(`corral.testing.hollow`), which join with a token, have certificates of their own, renew Leases, report status, watch,
and do for each pod all that an agent does, except running it. One Deployment is started on them; then machines die, one
after the other, without a goodbye. All along this process asks the API 15 things a second and notes how long each took.

    python bench/fleet.py [--machines N] [--pods N] [--dead N] [--processes N] [--profile NAME] [--idle S] [--json]

CPU is given in percent of one core, or for each pod that was started. The calibration is the CPU time of a fixed piece
of Python meanwhile, as in bench/submit.py: figures of runs on a busy machine compare by their ratio to it.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds import conditions
from corral.kinds.resources import CONFIG_MAPS, DEPLOYMENTS, NODES, PODS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj, Resource
from corral.testing.ending import end_as_by_ctrl_c
from submit import calibrate, deployment, percentile, pod_spec, until_ready

_PAUSE = 0.2
_LONG = 1800.0
"""Seconds after which a step has failed."""


class Processes:
    """The cell, and the hollow machines in processes of their own."""

    def __init__(self, directory: Path, profile: str) -> None:
        self._directory = directory
        arguments = ["up", "--no-agent", "--port", "0", "--data-dir", str(directory / "c"), "--health-profile", profile]
        self.kubeconfig = directory / "c" / "kubeconfig"
        self._hollow: list[subprocess.Popen[str]] = []
        self._memory = tempfile.mkdtemp(prefix="corral-hollow-", dir="/dev/shm")
        """What the machines write: they are killed and leave it."""
        self._cell = _start("corral", *arguments)
        self.server = psutil.Process(self._cell.pid)

    def wait(self) -> None:
        """Return when the cell is ready."""
        _read_until(self._cell, "cell ready")

    def join(self, machines: int, processes: int, at_once: int) -> float:
        """Start the machines; seconds until the last one was ready."""
        line = subprocess.run(
            [sys.executable, "-m", "corral", "token", "create"],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        began = time.monotonic()
        share = -(-machines // processes)
        for first in range(0, machines, share):
            some = ["--machines", str(min(share, machines - first)), "--first", str(first), "--at-once", str(at_once)]
            some += ["--directory", self._memory]
            words = (line[2], line[line.index("--token") + 1], line[line.index("--ca-hash") + 1])
            self._hollow.append(_start("corral.testing.hollow", *words, *some))
        for process in self._hollow:
            _read_until(process, "machines ready")
        self._share = share
        return time.monotonic() - began

    def kill(self, number: int) -> None:
        """Machine `number` dies."""
        process = self._hollow[number // self._share]
        assert process.stdin is not None
        process.stdin.write(f"hollow-{number}\n")
        process.stdin.flush()
        _read_until(process, "is dead")

    def agents(self) -> list[psutil.Process]:
        return [psutil.Process(process.pid) for process in self._hollow]

    def end(self) -> None:
        for process in self._hollow:
            process.kill()
        self._cell.send_signal(signal.SIGINT)
        for process in (*self._hollow, self._cell):
            process.communicate(timeout=60)
        shutil.rmtree(self._memory)


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    raise RuntimeError(f"{process.args!r} has ended")


def cpu(*processes: psutil.Process) -> float:
    """Seconds of CPU time so far."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


@dataclass
class Probe:
    """Asks the API for this and that, at a steady pace, and notes the milliseconds."""

    client: Client
    machines: int
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            await asyncio.gather(*(self._timed(name, ask, number) for name, ask in self._questions().items()))
            await asyncio.sleep(_PAUSE)

    def _questions(self) -> dict[str, Callable[[int], Awaitable[object]]]:
        return {"get": self._get, "list pods of a node": self._list, "create": self._create}

    async def _timed(self, name: str, ask: Callable[[int], Awaitable[object]], number: int) -> None:
        began = time.perf_counter()
        await ask(number)
        self.took[name].append((time.perf_counter() - began) * 1e3)

    async def _get(self, number: int) -> object:
        return await self.client.get(NODES, f"hollow-{number % self.machines}")

    async def _list(self, number: int) -> object:
        return await self.client.list(PODS, field_selector=f"spec.nodeName=hollow-{number % self.machines}")

    async def _create(self, number: int) -> object:
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "probe-", "namespace": "default"}}
        return await self.client.create(CONFIG_MAPS, {**made, "data": {"number": str(number)}})


class Bench:
    """The measuring of one cell."""

    def __init__(self, processes: Processes, client: Client, options: argparse.Namespace) -> None:
        self._processes = processes
        self._client = client
        self._options = options
        self.figures: dict[str, float] = {}

    async def run(self) -> None:
        options, figures = self._options, self.figures
        await until_ready(self._client)
        server = self._processes.server
        figures["server with no machine, MB"] = server.memory_info().rss / 1e6
        before = cpu(server)
        figures["joining s"] = await asyncio.to_thread(
            self._processes.join, options.machines, options.processes, options.at_once
        )
        figures["joining, server CPU ms/machine"] = (cpu(server) - before) / options.machines * 1e3
        await asyncio.sleep(20.0)
        async with self._phase("idle"):
            await asyncio.sleep(options.idle)
        async with self._phase("starting"):
            figures["starting s"] = await self._start(options.pods)
        await asyncio.sleep(10.0)
        async with self._phase("running"):
            await asyncio.sleep(options.idle)
        if options.dead:
            async with self._phase("dying"):
                await self._kill(options.dead)

    @asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[None]:
        """Note what the servers and the machines need during the block, and how fast answers come."""
        server, agents = self._processes.server, self._processes.agents()
        probe, pieces = Probe(self._client, self._options.machines), []  # type: tuple[Probe, list[float]]
        tasks = [asyncio.create_task(probe.run()), asyncio.create_task(calibrate(pieces))]
        began, used = time.monotonic(), (cpu(server), cpu(*agents))
        yield
        seconds = time.monotonic() - began
        for task in tasks:
            task.cancel()
        each = {"server": (cpu(server) - used[0]), "agents": (cpu(*agents) - used[1])}
        for who, spent in each.items():
            self.figures[f"{name}, {who} CPU %"] = spent / seconds * 100
            if name == "starting":
                self.figures[f"{name}, {who} CPU ms/pod"] = spent / self._options.pods * 1e3
        self.figures[f"{name}, server MB"] = server.memory_info().rss / 1e6
        self.figures[f"{name}, agents MB"] = sum(agent.memory_info().rss for agent in agents) / 1e6
        self.figures[f"{name}, calibration us"] = statistics.median(pieces)
        for question, took in probe.took.items():
            self.figures[f"{name}, {question} p50 ms"] = statistics.median(took)
            self.figures[f"{name}, {question} p99 ms"] = percentile(took, 0.99)

    async def _start(self, pods: int) -> float:
        """Seconds until all pods of a new Deployment are ready."""
        made = deployment("many", pods)
        made["spec"]["template"]["spec"] = pod_spec()
        began = time.monotonic()
        await self._client.create(DEPLOYMENTS, made)
        async with asyncio.timeout(_LONG):
            await self._until(DEPLOYMENTS, "many", "default", lambda found: _ready(found) >= pods)
        return time.monotonic() - began

    async def _until(self, resource: Resource, name: str, namespace: str, holds: Callable[[Obj], bool]) -> None:
        """Return when the object is as wanted."""

        while True:
            found = await self._client.get(resource, name, namespace)
            if holds(found):
                return
            version, selector = found["metadata"]["resourceVersion"], f"metadata.name={name}"
            try:
                async with self._client.watch(
                    resource, namespace, resource_version=version, field_selector=selector
                ) as events:
                    async for event in events:
                        if event.type == "MODIFIED" and holds(event.object):
                            return
            except (StatusError, OSError):
                await asyncio.sleep(0.1)

    async def _kill(self, count: int) -> None:
        """Machines die, one after the other."""
        noticed, replaced = [], []
        for number in range(count):
            name = f"hollow-{number * 7 % self._options.machines}"
            before = await self._client.list(PODS, "default", field_selector=f"spec.nodeName={name}")
            began = time.monotonic()
            await asyncio.to_thread(self._processes.kill, int(name.rpartition("-")[2]))
            async with asyncio.timeout(_LONG):
                await self._until(NODES, name, "", lambda found: not conditions.is_true(found, "Ready"))
                noticed.append(time.monotonic() - began)
                if before["items"]:
                    await self._until(DEPLOYMENTS, "many", "default", lambda found: _ready(found) < self._options.pods)
                await self._until(DEPLOYMENTS, "many", "default", lambda found: _ready(found) >= self._options.pods)
                replaced.append(time.monotonic() - began)
        for what, took in (("noticed", noticed), ("pods replaced", replaced)):
            if took:
                self.figures |= {f"{what} s, median": statistics.median(took), f"{what} s, worst": max(took)}


def _ready(deployment: Obj) -> int:
    return int((deployment.get("status") or {}).get("readyReplicas") or 0)


async def measure(processes: Processes, options: argparse.Namespace) -> dict[str, float]:
    """All figures."""
    client = Client(load(processes.kubeconfig).transport(), field_manager="bench")
    bench = Bench(processes, client, options)
    try:
        await bench.run()
    finally:
        await client.close()
        if sys.exc_info()[0] is not None:
            print(json.dumps(bench.figures), file=sys.stderr)
    return bench.figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1_000, metavar="N")
    parser.add_argument("--pods", type=int, default=10_000, metavar="N")
    parser.add_argument("--dead", type=int, default=5, metavar="N", help="machines that die")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="that the machines are in")
    parser.add_argument(
        "--at-once", type=int, default=50, metavar="N", help="pods that a process is starting at any time"
    )
    parser.add_argument("--profile", default="default", metavar="NAME", help="the cell's health profile")
    parser.add_argument("--idle", type=float, default=30.0, metavar="S", help="how long to watch a cell at rest")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    directory = Path(tempfile.mkdtemp(prefix="corral-fleet-"))
    processes = Processes(directory, options.profile)
    try:
        processes.wait()
        figures = uvloop.run(measure(processes, options))
    finally:
        processes.end()
        shutil.rmtree(directory)
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<40}{figure:>12,.2f}")


if __name__ == "__main__":
    main()

"""From submit to bound on a whole cell: `corral up` with its durable store, as a process of its own, over HTTPS.

A thousand Nodes are registered and do nothing but live: each renews its Lease every 10 seconds and reports its status
every 5 minutes, as a kubelet without pods does. Then pods are created one at a time while nothing else happens, and at
last one Deployment with 10,000 replicas. The watcher is this process, over a connection of its own; a pod is bound when
it hears of its `nodeName`.

    python bench/submit.py [--machines N] [--replicas N] [--singles N] [--profile FILE] [--json]

Beside the rate it prints the CPU time that the cell took for each pod, and that of a fixed piece of Python meanwhile:
rates of runs on a busy machine compare by their ratio.
"""

import argparse
import asyncio
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import uvloop

from corral.client.api import STRATEGIC_MERGE_PATCH
from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds.resources import DEPLOYMENTS, LEASES, NODES, PODS, SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.ending import end_as_by_ctrl_c

LEASE_SECONDS = 10.0
STATUS_SECONDS = 300.0
_JOINING = 100
_ZONE = "topology.kubernetes.io/zone"


def now() -> str:
    """The time as Leases carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def node(number: int) -> Obj:
    """A machine of 32 CPUs."""
    name, amounts = f"node-{number}", {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110"}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", _ZONE: f"zone-{number % 3}"}
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": f"Kubelet{kind}",
            "message": "as told",
            "lastHeartbeatTime": now()[:19] + "Z",
        }
        for kind, status in (
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
            ("Ready", "True"),
        )
    ]
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def lease(name: str) -> Obj:
    """A machine's sign of life."""
    spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now()}
    metadata = {"name": name, "namespace": "kube-node-lease"}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def pod_spec() -> Obj:
    """What each pod asks for."""
    requests = {"cpu": "100m", "memory": "128Mi"}
    container = {
        "name": "main",
        "image": "app:1",
        "ports": [{"containerPort": 80}],
        "resources": {"requests": requests},
    }
    return {"containers": [container]}


def deployment(name: str, replicas: int) -> Obj:
    """So many pods at once."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


async def register(client: Client, machines: int) -> list[Obj]:
    """Create Nodes and their Leases; the Leases as they are now."""
    leases: list[Obj] = []
    # Each call that is under way has a connection, and a machine that is busy shakes hands slowly.
    for start in range(0, machines, _JOINING):
        numbers = range(start, min(start + _JOINING, machines))
        await asyncio.gather(*(client.create(NODES, node(number)) for number in numbers))
        leases += await asyncio.gather(*(client.create(LEASES, lease(f"node-{number}")) for number in numbers))
    return leases


async def renewed(client: Client, held: Obj) -> Obj:
    """The Lease as it is after an update; read again, as a kubelet does, if somebody else has written it."""
    try:
        return await client.update(LEASES, held)
    except StatusError as error:
        if error.code != 409:
            raise
    current = await client.get(LEASES, held["metadata"]["name"], held["metadata"]["namespace"])
    return await client.update(LEASES, {**current, "spec": held["spec"]})


async def live(client: Client, held: Obj, delay: float) -> None:
    """One machine's heartbeats."""
    await asyncio.sleep(delay)
    reported = time.monotonic() - STATUS_SECONDS * delay / LEASE_SECONDS
    while True:
        held["spec"]["renewTime"] = now()
        began = time.monotonic()
        held = await renewed(client, held)
        if began - reported >= STATUS_SECONDS:
            reported = began
            name = held["metadata"]["name"]
            patch = {
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": now()[:19] + "Z"}]}
            }
            await client.patch(NODES, name, patch, kind=STRATEGIC_MERGE_PATCH, subresource="status")
        await asyncio.sleep(began + LEASE_SECONDS - time.monotonic())


@asynccontextmanager
async def machines_alive(client: Client, machines: int) -> AsyncIterator[None]:
    """Register machines, whose heartbeats go on for the length of the block."""
    leases = await register(client, machines)
    async with asyncio.TaskGroup() as tasks:
        beats = [
            tasks.create_task(live(client, held, LEASE_SECONDS * number / machines))
            for number, held in enumerate(leases)
        ]
        yield
        for beat in beats:
            beat.cancel()


@dataclass
class Bound:
    """Pods that a watcher has seen bound."""

    when: dict[str, float] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, client: Client, revision: str) -> None:
        """Note each pod that gets a machine."""
        async with client.watch(PODS, "default", resource_version=revision) as events:
            async for event in events:
                if event.type == "ERROR":
                    raise StatusError.from_status(event.object)
                if (event.object.get("spec") or {}).get("nodeName"):
                    self.when.setdefault(event.object["metadata"]["name"], time.perf_counter())
                    self.news.set()

    async def until(self, enough: Callable[[], bool]) -> None:
        """Return when `enough` holds, which is asked after each news."""
        while not enough():
            self.news.clear()
            await self.news.wait()


async def single(client: Client, bound: Bound, name: str) -> float:
    """Milliseconds from sending the create of a pod until it is seen bound."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": pod_spec()}
    began = time.perf_counter()
    await client.create(PODS, pod)
    await bound.until(lambda: name in bound.when)
    return (bound.when[name] - began) * 1e3


async def calibrate(times: list[float]) -> None:
    """Note, twice a second, the microseconds of CPU that a fixed piece of Python takes."""
    while True:
        began = time.thread_time()
        sum(number * number % 7 for number in range(10_000))
        times.append((time.thread_time() - began) * 1e6)
        await asyncio.sleep(0.5)


async def measure(client: Client, server: psutil.Process, options: argparse.Namespace) -> dict[str, float]:
    """Single pods, then the Deployment."""
    await until_ready(client)
    figures: dict[str, float] = {}
    bound = Bound()
    async with machines_alive(client, options.machines):
        revision = (await client.list(PODS, "default"))["metadata"]["resourceVersion"]
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(bound.follow(client, revision))
            # The first heartbeats end; what starts once is started.
            await single(client, bound, "warm-up")
            await asyncio.sleep(2)
            singles = [await idle_single(client, bound, f"single-{number}") for number in range(options.singles)]
            figures |= {"single p50 ms": statistics.median(singles), "single p99 ms": percentile(singles, 0.99)}
            figures |= await measure_deployment(client, bound, server, options.replicas)
            following.cancel()
    figures["server resident MB"] = server.memory_info().rss / 1e6
    return figures


async def idle_single(client: Client, bound: Bound, name: str) -> float:
    """A pod that arrives while nothing else happens."""
    took = await single(client, bound, name)
    await asyncio.sleep(0.03)
    return took


async def measure_deployment(client: Client, bound: Bound, server: psutil.Process, replicas: int) -> dict[str, float]:
    """From sending the Deployment until its last pod is bound."""
    before, cpu = len(bound.when), sum(server.cpu_times()[:2])
    pieces: list[float] = []
    calibrating = asyncio.create_task(calibrate(pieces))
    began = time.perf_counter()
    await client.create(DEPLOYMENTS, deployment("many", replicas))
    await bound.until(lambda: len(bound.when) >= before + replicas)
    seconds = time.perf_counter() - began
    cpu = sum(server.cpu_times()[:2]) - cpu
    calibrating.cancel()
    each, piece = cpu / replicas * 1e6, statistics.median(pieces)
    rates = {"pods/s": replicas / seconds, "seconds": seconds}
    return rates | {"server CPU us/pod": each, "calibration us": piece, "CPU/calibration": each / piece}


async def until_ready(client: Client) -> None:
    """Return when pods can be created."""
    while True:
        try:
            await client.get(SERVICE_ACCOUNTS, "default", "default")
            return
        except StatusError:
            await asyncio.sleep(0.05)


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of all are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def start(data_dir: Path, profile: str) -> subprocess.Popen[str]:
    """A cell that runs nothing on this machine, ready."""
    profiled = ["-m", "cProfile", "-o", profile] if profile else []
    command = [
        sys.executable,
        *profiled,
        "-m",
        "corral",
        "up",
        "--no-agent",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if re.search(r"cell ready", line):
                return process
        raise RuntimeError("the cell did not start")
    except BaseException:
        process.kill()
        process.wait()
        raise


async def as_client(data_dir: Path, act: Callable[[Client], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """What `act` gives, done as the cell's administrator."""
    client = Client(load(data_dir / "kubeconfig").transport(), field_manager="bench")
    try:
        return await act(client)
    finally:
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1_000, metavar="N")
    parser.add_argument("--replicas", type=int, default=10_000, metavar="N")
    parser.add_argument("--singles", type=int, default=200, metavar="N", help="pods created one at a time")
    parser.add_argument("--profile", default="", metavar="FILE", help="write a profile of the cell")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="corral-submit-") as name:
        directory = Path(name)
        process = start(directory, options.profile)
        try:
            server = psutil.Process(process.pid)
            figures = uvloop.run(as_client(directory, lambda client: measure(client, server, options)))
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<24}{figure:>12,.1f}")


if __name__ == "__main__":
    main()

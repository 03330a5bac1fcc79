"""A whole cell as its users see it: start, idle cost, and pods from create to Running over HTTPS.

    python bench/cell.py [--pods N] [--idle SECONDS] [--json]

Needs root. Beside the pods it prints what bare `runc run` takes for a container of the same root in the same run: the
work that nobody can save. The watcher is this process, on a connection of its own, as any client would be.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import uvloop

from corral.client.client import Client
from corral.client.kubeconfig import load
from corral.kinds.resources import PODS, SERVICE_ACCOUNTS
from corral.kinds.status import StatusError
from corral.kinds.types import Obj
from corral.testing.ending import end_as_by_ctrl_c

CORRAL = [sys.executable, "-m", "corral"]


def pod(name: str) -> Obj:
    """A pod that runs until it is told to end."""
    container = {"name": "main", "image": "host", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def until_running(client: Client, names: Sequence[str]) -> list[float]:
    """Create all of `names` at once; the milliseconds after which a watcher saw each Running."""
    listing = await client.list(PODS, "default")
    revision = listing["metadata"]["resourceVersion"]
    seen: dict[str, float] = {}
    async with client.watch(PODS, "default", resource_version=revision) as events:
        began = time.perf_counter()
        creates = [asyncio.create_task(client.create(PODS, pod(name))) for name in names]
        async for event in events:
            name = event.object["metadata"].get("name", "")
            if event.object.get("status", {}).get("phase") == "Running" and name in names:
                seen.setdefault(name, (time.perf_counter() - began) * 1000)
                if len(seen) == len(names):
                    break
        await asyncio.gather(*creates)
    return sorted(seen.values())


async def remove(client: Client, names: Sequence[str]) -> None:
    """Delete pods and wait until they are gone."""
    await asyncio.gather(*(client.delete(PODS, name, "default", grace=0) for name in names))
    while (listing := await client.list(PODS, "default"))["items"]:
        revision = listing["metadata"]["resourceVersion"]
        async with client.watch(PODS, "default", resource_version=revision) as events:
            async for event in events:
                if event.type == "DELETED":
                    break


async def pods(kubeconfig: Path, count: int) -> dict[str, list[float]]:
    """Pods one at a time, and then 20 at once, three times."""
    client = Client(load(kubeconfig).transport())
    while True:
        try:
            await client.get(SERVICE_ACCOUNTS, "default", "default")
            break
        except StatusError:
            await asyncio.sleep(0.05)
    single: list[float] = []
    for number in range(count):
        single += await until_running(client, [f"one-{number}"])
        await remove(client, [f"one-{number}"])
    last: list[float] = []
    for attempt in range(3):
        names = [f"many-{attempt}-{number}" for number in range(20)]
        last.append((await until_running(client, names))[-1])
        await remove(client, names)
    await client.close()
    return {"single": single, "last of 20": last}


def bare_runc(directory: Path, rounds: int) -> list[float]:
    """Milliseconds of `runc run` of /usr/bin/true in a root like that of the `host` image."""
    root = directory / "rootfs"
    for name in ("usr", "proc", "dev", "sys", "etc", "tmp"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    subprocess.run(["runc", "spec", "--bundle", str(directory)], check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/usr/bin/true"]}
    usr = {"destination": "/usr", "source": "/usr", "type": "bind", "options": ["rbind", "ro"]}
    config["mounts"].append(usr)
    (directory / "config.json").write_text(json.dumps(config))
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        subprocess.run(["runc", "run", "--bundle", str(directory), f"corral-bench-{os.getpid()}-{number}"], check=True)
        times.append((time.perf_counter() - began) * 1000)
    return times


def idle(pid: int, seconds: float) -> dict[str, float]:
    """Memory in MB and CPU in percent of one core of a process and its children over `seconds`."""
    server = psutil.Process(pid)
    family = [server, *server.children(recursive=True)]
    before = sum(sum(one.cpu_times()[:2]) for one in family)
    time.sleep(seconds)
    after = sum(sum(one.cpu_times()[:2]) for one in family)
    rss = sum(one.memory_info().rss for one in family) / 1e6
    pss = sum(one.memory_full_info().pss for one in family) / 1e6
    return {"rss": rss, "pss": pss, "cpu": (after - before) / seconds * 100}


def help_time() -> float:
    """Milliseconds of `corral --help`, the median of ten."""
    times = []
    for _ in range(10):
        began = time.perf_counter()
        subprocess.run([*CORRAL, "--help"], check=True, capture_output=True)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def up(data_dir: Path) -> tuple[float, float]:
    """Milliseconds from `corral up --detach` to its return, and to ready in the cell's own words."""
    began = time.perf_counter()
    command = [*CORRAL, "up", "--detach", "--port", "0", "--data-dir", str(data_dir)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    returned = (time.perf_counter() - began) * 1000
    found = re.search(r"cell ready in ([\d.]+) (ms|s)", said)
    assert found is not None, said
    return returned, float(found[1]) * (1 if found[2] == "ms" else 1000)


def measure(count: int, seconds: float) -> dict[str, Any]:
    """Everything, in one run."""
    directory = Path(tempfile.mkdtemp(prefix="cb"))
    data_dir = directory / "c"
    try:
        figures: dict[str, Any] = {"help ms": help_time()}
        figures["first up ms"], figures["first ready ms"] = up(data_dir)
        figures["idle"] = idle(int((data_dir / "run" / "corral.pid").read_text()), seconds)
        figures["pods"] = uvloop.run(pods(data_dir / "kubeconfig", count))
        figures["runc run ms"] = bare_runc(directory / "bundle", count)
        subprocess.run(
            [*CORRAL, "down", "--keep-containers", "--data-dir", str(data_dir)], check=True, capture_output=True
        )
        figures["second up ms"], figures["second ready ms"] = up(data_dir)
        return figures
    finally:
        subprocess.run([*CORRAL, "down", "-t", "0", "--data-dir", str(data_dir)], check=False, capture_output=True)
        shutil.rmtree(directory)


def show(figures: dict[str, Any]) -> None:
    """The figures as a person reads them, with the targets."""
    single, last = figures["pods"]["single"], figures["pods"]["last of 20"]
    runc, one = statistics.median(figures["runc run ms"]), statistics.median(single)
    rest, first, again = figures["idle"], figures["first ready ms"], figures["second ready ms"]
    rows = [
        ("corral --help", figures["help ms"], "ms", "target 150"),
        ("corral up, first", figures["first up ms"], "ms", f"ready {first:.0f}; target 2000"),
        ("corral up, again", figures["second up ms"], "ms", f"ready {again:.0f}"),
        ("idle process tree, resident", rest["rss"], "MB", f"{rest['pss']:.0f} proportional; target 150"),
        ("idle process tree, CPU", rest["cpu"], "%", "of a core; target 1"),
        (
            "pod, create to Running",
            one,
            "ms",
            f"median, worst {max(single):.0f}; target 100; {one / runc:.1f}x bare runc",
        ),
        ("20 pods at once, the last", statistics.median(last), "ms", f"median of {len(last)}; target 1000"),
        ("bare runc run, start to exit", runc, "ms", "median"),
    ]
    for name, value, unit, remark in rows:
        print(f"{name:<30}{value:8.4g} {unit:<3} ({remark})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=20, metavar="N", help="pods to start one at a time")
    parser.add_argument("--idle", type=float, default=15, metavar="SECONDS", help="how long to watch an idle cell")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    end_as_by_ctrl_c()
    figures = measure(options.pods, options.idle)
    print(json.dumps(figures, indent=4)) if options.json else show(figures)


if __name__ == "__main__":
    main()

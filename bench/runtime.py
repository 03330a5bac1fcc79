"""Starting containers: ours beside bare `crun run` and `runc run` of the same container, in one run.

    python bench/runtime.py [--engine auto|crun|runc]

Prints medians in milliseconds and the ratios that the targets speak of: creating and starting a container (at most 3x
bare runc), a sandbox (at most about 25 ms), and 20 pods at once (at most 1.0 s until the last one runs).
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from corral.agent.runtime import spawn
from corral.agent.runtime.api import ContainerSpec, SandboxSpec
from corral.agent.runtime.oci import OciRuntime, choose, filters, seccomp
from corral.agent.runtime.oci.cgroups import detect
from corral.agent.runtime.oci.engine import Choice, wrapper
from corral.base.clock import SystemClock
from corral.testing.ending import end_as_by_ctrl_c

ROUNDS = 20


@dataclass
class Times:
    """Milliseconds of each step, one entry a round."""

    sandbox: list[float]
    create: list[float]
    start: list[float]


async def timed(work: Awaitable[object], into: list[float]) -> None:
    started = time.perf_counter()
    await work
    into.append((time.perf_counter() - started) * 1000)


def container(number: int, *command: str) -> ContainerSpec:
    return ContainerSpec(f"s{number}-c", f"s{number}", "main", 0, "host", command)


async def pod(runtime: OciRuntime, number: int, times: Times) -> None:
    """One pod with one container, until it runs."""
    spec = SandboxSpec(f"s{number}", f"u{number}", "default", "pod", "pod")
    await timed(runtime.create_sandbox(spec), times.sandbox)
    await timed(runtime.create_container(container(number, "sleep", "1000")), times.create)
    await timed(runtime.start_container(f"s{number}-c"), times.start)


async def bare(name: str, bundle: Path, rounds: int) -> float:
    """The median of `NAME run` of a container that ends at once, in a bundle of ours."""
    times: list[float] = []
    argv = [*wrapper(name, detect()), name, "--root", str(bundle / name), "run", "--bundle", str(bundle)]
    for number in range(rounds):
        started = time.perf_counter()
        done = await spawn.run([*argv, f"bare-{name}-{number}"])
        times.append((time.perf_counter() - started) * 1000)
        if done.code:
            raise SystemExit(f"cannot run {name}: {done.words}")
    return statistics.median(times)


async def ours_to_the_end(runtime: OciRuntime, number: int) -> float:
    """Create, start and see the end of a container that ends at once, as the bare runs do."""
    spec = container(0, "true")
    spec = ContainerSpec(f"end{number}", spec.sandbox_id, "end", 0, "host", spec.command)
    exits = runtime.exits()
    started = time.perf_counter()
    await runtime.create_container(spec)
    await runtime.start_container(spec.id)
    await anext(exits)
    return (time.perf_counter() - started) * 1000


async def bare_bundle(runtime: OciRuntime, directory: Path) -> Path:
    """A bundle as ours for the bare runs, with the same seccomp profile spelled out, which every OCI runtime reads."""
    await runtime.create_container(container(0, "true"))
    config = json.loads((directory / "containers" / "s0-c" / "config.json").read_bytes())
    config.get("annotations", {}).pop(filters.ANNOTATION, None)
    profile = seccomp.default_path()
    if profile is not None:
        config["linux"]["seccomp"] = seccomp.load(profile, config["process"]["capabilities"]["bounding"])
    made = directory / "bare"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(config))
    return made


async def measure(directory: Path, engine: Choice) -> None:
    runtime = OciRuntime(
        directory, network=choose(directory.name), clock=SystemClock(), cell=directory.name, engine=engine
    )
    await runtime.open()
    try:
        await runtime.create_sandbox(SandboxSpec("s0", "u0", "default", "pod", "pod"))
        bundle = await bare_bundle(runtime, directory)
        runs = {name: await bare(name, bundle, ROUNDS) for name in ("crun", "runc") if shutil.which(name)}
        ends = statistics.median([await ours_to_the_end(runtime, number) for number in range(ROUNDS)])
        one = Times([], [], [])
        for number in range(1, ROUNDS + 1):
            await pod(runtime, number, one)
        together = Times([], [], [])
        started = time.perf_counter()
        await asyncio.gather(*(pod(runtime, 1000 + number, together) for number in range(20)))
        report(runtime.version, runs, ends, one, (time.perf_counter() - started) * 1000)
    finally:
        await in_order(runtime)


def report(version: str, runs: dict[str, float], ends: float, one: Times, together: float) -> None:
    print(f"{version}, medians of {ROUNDS}, in milliseconds")
    print(f"  sandbox (namespaces, CNI address)    {statistics.median(one.sandbox):7.1f}   target about 25")
    print(f"  container: create                    {statistics.median(one.create):7.1f}")
    print(f"  container: start                     {statistics.median(one.start):7.1f}")
    ratios = ", ".join(f"{ends / median:.2f}x {name}" for name, median in runs.items())
    print(f"  container: create, start, end        {ends:7.1f}   {ratios}   target 3x runc")
    for name, median in runs.items():
        print(f"  bare `{name} run` of the same          {median:7.1f}")
    print(f"  20 pods at once, until the last runs {together:7.1f}   target 1000")


async def in_order(runtime: OciRuntime) -> None:
    """Take everything away."""
    await asyncio.gather(*(runtime.remove_sandbox(sandbox.id) for sandbox in await runtime.sandboxes()))
    await runtime.destroy_network()
    await runtime.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("auto", "crun", "runc"), default="auto")
    engine: Choice = parser.parse_args().engine
    end_as_by_ctrl_c()
    directory = Path(tempfile.mkdtemp(prefix="c", dir="/tmp"))
    try:
        uvloop.run(measure(directory, engine))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()

"""GPU packing on Alibaba's public trace `openb`: the share of a cluster's GPUs that is allocated when demand is 130 %.

    python bench/openb.py [--data FOLDER] [--trace FILE ...] [--nodes FILE] [--seeds N] [--profile NAME ...] [-o json]

The trace is that of FGD (Weng et al., "Beware of Fragmentation", USENIX ATC'23) and is published at
https://github.com/alibaba/clusterdata (cluster-trace-gpu-v2023) and, with its variants, in
https://github.com/hkust-adsl/kubernetes-scheduler-simulator (data/csv). `--data` (or CORRAL_OPENB) is a folder with
`openb_node_list_gpu_node.csv` and `openb_pod_list_*.csv`; any files of that form can be named instead.

The protocol is the paper's: the pods in a shuffled order, then pods drawn from the list until the next one would take
the demand beyond 130 % of the cluster's GPUs. Nothing leaves, nothing moves, and a pod that fits nowhere is dropped.
The decisions are `assign`'s, as in the live loop. What pods are typical is given, as the paper's policy has it, or
learned from those placed so far (`--learn`). Published means: best fit 93.08 %, FGD 95.39 % on the default list.
"""

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corral.base.errors import CorralError
from corral.kinds.accelerators import WHOLE, GpuAsk
from corral.kinds.types import Key, Obj
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.filters.node_affinity import NodeAffinity
from corral.scheduler.outlook import taken
from corral.scheduler.plan import Bind, Pending, assign
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import PACKING, PROFILES, Profile
from corral.scheduler.scores.fragmentation import expect
from corral.scheduler.simulator import inventory
from corral.scheduler.snapshot import Rows, Snapshot

_DEMAND = 1.3
_BATCH = 100
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


class BestFit:
    """The machine on which the least would be left of cpu, memory and GPUs, in shares of the largest machine's."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        left = snapshot.allocatable[rows, :2] - snapshot.requested[rows, :2]
        gpus = snapshot.devices.free[rows].sum(axis=1) / (snapshot.devices.counts.max() * WHOLE)
        scores: NDArray[np.float64] = -(left / snapshot.allocatable[:, :2].max(axis=0)).sum(axis=1) - gpus
        return scores


class Fgd:
    """The machine whose fragmentation grows least, in the paper's words: what of its GPUs a typical pod could not use,
    in the mean over the typical pods. What ties is decided by best fit, as is the device on a machine."""

    def score(self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.arange(len(snapshot.alive))[rows]
        left = snapshot.allocatable[at, :2] - snapshot.requested[at, :2]
        free = snapshot.devices.free[at]
        asked = GpuAsk("", 0, 0) if pod.gpu is None else pod.gpu
        then = taken(free, np.full(len(at), asked.count), np.full(len(at), asked.milli, dtype=np.int16))
        after = left - np.array([pod.requests.get("cpu", 0), pod.requests.get("memory", 0)])
        grown = self._fragments(snapshot, at, after, then) - self._fragments(snapshot, at, left, free)
        scores: NDArray[np.float64] = share.sum(axis=1) / 1000 - grown
        return scores

    @staticmethod
    def _fragments(
        snapshot: Snapshot, rows: NDArray[np.intp], left: NDArray[np.int64], free: NDArray[np.int16]
    ) -> NDArray[np.float64]:
        typical = snapshot.devices.typical.pods
        total = free.sum(axis=1).astype(np.float64)
        untouched, most = np.count_nonzero(free == WHOLE, axis=1), free.max(axis=1)
        fragments = np.zeros(len(rows))
        for pod, weight in typical.items():
            if pod.gpu is None:
                continue
            fits = (left[:, 0] >= pod.requests.get("cpu", 0)) & (left[:, 1] >= pod.requests.get("memory", 0))
            fits &= (untouched >= pod.gpu.count) & (most >= pod.gpu.milli)
            models = _MODELS.passes(snapshot, pod)
            if models is not None:
                fits &= models[rows]
            small = np.where(free < (pod.gpu.milli or WHOLE), free, 0).sum(axis=1)
            fragments += weight * np.where(fits, small, total)
        return fragments / sum(typical.values())


_MODELS = NodeAffinity()
_BEST_FIT = ((BestFit(), 1.0),)
_FGD = ((Fgd(), 1.0),)
_PROFILES = PROFILES | {
    "best-fit": Profile("best-fit", _BEST_FIT, gpu_rows=_BEST_FIT, beside_gpus=()),
    "fgd": Profile("fgd", _FGD, gpu_rows=_FGD, beside_gpus=()),
}
_PUBLISHED = {"default": 95.39, "cpu100": 95.35, "gpushare40": 94.15, "gpuspec10": 94.95, "multigpu20": 95.65}


@dataclass(frozen=True)
class Run:
    """One seed's outcome."""

    allocated: float
    """In per cent of the cluster's GPUs."""
    seconds: float
    """Of processor time."""
    asked: Counter[str]
    dropped: Counter[str]
    """Pods, by size."""


def size(pod: PodClass) -> str:
    """The pod's number of GPUs, or `fraction`."""
    ask = pod.gpu
    return "0" if ask is None else "fraction" if ask.milli else str(ask.count)


def milli(pod: PodClass) -> int:
    """What the pod asks for in thousandths of a GPU."""
    return 0 if pod.gpu is None else pod.gpu.count * WHOLE + pod.gpu.milli


def arrivals(pods: Sequence[PodClass], capacity: int, rng: random.Random) -> list[PodClass]:
    """`pods` shuffled, and then more of them as long as the demand stays below 130 % of `capacity`."""
    order = list(pods)
    rng.shuffle(order)
    demand = sum(map(milli, order))
    while True:
        more = rng.choice(pods)
        demand += milli(more)
        if demand > _DEMAND * capacity:
            return order
        order.append(more)


def run(machines: Iterable[Obj], pods: Sequence[Obj], seed: int, profile: Profile, *, learn: bool) -> Run:
    """Place the pods of one order."""
    snapshot = Snapshot()
    for machine in machines:
        snapshot.put_node(machine)
    classes = [snapshot.classify(pod) for pod in pods]
    if not learn:
        alike = {pod.alone: pod for pod in classes}
        expect(snapshot, {alike[alone]: count for alone, count in Counter(pod.alone for pod in classes).items()})
    capacity = int(snapshot.devices.counts.sum()) * WHOLE
    rng = random.Random(seed)
    order = arrivals(classes, capacity, rng)
    cache, dropped, allocated = CandidateCache(snapshot, profile), Counter[str](), 0
    start = time.process_time()
    for at in range(0, len(order), _BATCH):
        batch = {Key("default", f"pod-{at + index}"): pod for index, pod in enumerate(order[at : at + _BATCH])}
        pending = [Pending(key, pod, 0, at + index) for index, (key, pod) in enumerate(batch.items())]
        for decision in assign(cache, pending, _NOW, rng):
            pod = batch[decision.pod]
            if isinstance(decision, Bind):
                allocated += milli(pod)
            else:
                dropped[size(pod)] += 1
    seconds = time.process_time() - start
    _check(snapshot, allocated)
    return Run(100 * allocated / capacity, seconds, Counter(map(size, order)), dropped)


def _check(snapshot: Snapshot, allocated: int) -> None:
    if snapshot.devices.overcommitted() or (snapshot.requested > snapshot.allocatable).any():
        raise RuntimeError("a machine holds more than it has")
    if int(snapshot.devices.counts.sum()) * WHOLE - int(snapshot.devices.free.sum()) != allocated:
        raise RuntimeError("the devices do not hold what was allocated")


def summary(runs: Sequence[Run]) -> dict[str, float | Mapping[str, float]]:
    """Over all seeds: the allocation in per cent, the share of the pods of each size that was dropped, seconds a
    seed."""
    allocated = [one.allocated for one in runs]
    asked, dropped = Counter[str](), Counter[str]()
    for one in runs:
        asked += one.asked
        dropped += one.dropped
    return {
        "mean": sum(allocated) / len(allocated),
        "min": min(allocated),
        "max": max(allocated),
        "dropped": {name: dropped[name] / asked[name] for name in sorted(asked)},
        "deviation": float(np.std(allocated)),
        "seconds": max(one.seconds for one in runs),
    }


def _files(options: argparse.Namespace) -> tuple[Path, list[Path]]:
    folder = Path(options.data) if options.data else None
    nodes = Path(options.nodes) if options.nodes else folder and folder / "openb_node_list_gpu_node.csv"
    traces = [Path(name) for name in options.trace]
    if not traces and folder:
        traces = [folder / "openb_pod_list_default.csv"]
    if nodes is None or not traces:
        raise SystemExit(f"openb: name the trace's folder with --data or CORRAL_OPENB\n\n{__doc__}")
    return nodes, traces


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise SystemExit(f"openb: cannot read {path}: {error.strerror}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("CORRAL_OPENB", ""), help="the folder of the trace's files")
    parser.add_argument("--trace", action="append", default=[], help="a pod list; more than one may be given")
    parser.add_argument("--nodes", default="", help="the node list")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--profile", action="append", choices=sorted(_PROFILES), help=f"default: {PACKING.name}")
    parser.add_argument("--learn", action="store_true", help="learn what is typical instead of being told")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    nodes, traces = _files(options)
    results: dict[str, dict[str, float | Mapping[str, float]]] = {}
    try:
        machines = inventory.machines(_read(nodes), str(nodes)).machines
        for trace in traces:
            pods = sorted(
                inventory.workloads(_read(trace), str(trace)).pods, key=lambda pod: str(pod["metadata"]["name"])
            )
            for name in options.profile or [PACKING.name]:
                runs = []
                for seed in range(options.seeds):
                    runs.append(run(machines, pods, seed, _PROFILES[name], learn=options.learn))
                    print(f"{trace.stem} {name} seed {seed}: {runs[-1].allocated:.2f} %", file=sys.stderr)
                results[f"{trace.stem} {name}"] = summary(runs)
    except CorralError as error:
        raise SystemExit(f"openb: {error}") from error
    if options.output == "json":
        print(json.dumps(next(iter(results.values())) if len(results) == 1 else results))
        return
    print(f"{'trace and profile':<44} {'mean':>6} {'min':>6} {'max':>6} {'FGD':>6} {'s/seed':>6}  dropped by size")
    for name, found in results.items():
        dropped = found["dropped"]
        shares = (
            ", ".join(f"{size} {share:.1%}" for size, share in dropped.items()) if isinstance(dropped, dict) else ""
        )
        published = _PUBLISHED.get(name.split()[0].removeprefix("openb_pod_list_"), float("nan"))
        figures = " ".join(f"{found[part]:>6.2f}" for part in ("mean", "min", "max"))
        print(f"{name:<44} {figures} {published:>6.2f} {found['seconds']:>6.1f}  {shares}")


if __name__ == "__main__":
    main()

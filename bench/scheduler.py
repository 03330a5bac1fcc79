"""Decisions a second in memory: the live loop's `assign` on machines and pods of everyday shapes.

    python bench/scheduler.py [--json]

Reading the pods (quantities, equivalence classes) is part of the measurement; binding and the store are not. Seconds
are those of CPU, because nothing here waits, so that what else the machine does counts little. Then what a snapshot of
10,000 machines and 100,000 pods of 1,000 services takes, and what one event costs.

kube-scheduler's own published floors on 5,000 machines are 680 decisions/s for basic pods, 460 for spreading and 35
to 60 for affinity between pods.
"""

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import psutil

from corral.base import memory
from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key, Obj
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.gangs import Gang
from corral.scheduler.plan import Bind, Pending, Preempt, assign
from corral.scheduler.profile import PROFILES
from corral.scheduler.snapshot import Snapshot
from corral.scheduler.trim import trim_node, trim_pod

_KUBE_SCHEDULER_FLOORS = {"basic": 680.0, "spread": 460.0, "affinity": 60.0, "anti-affinity": 60.0}
_BETWEEN_PODS = ("anti-affinity", "affinity", "spread")
_ZONE = "topology.kubernetes.io/zone"
_HARD = {"whenUnsatisfiable": "DoNotSchedule"}
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def node_of(number: int) -> Obj:
    labels = {"kubernetes.io/hostname": f"node-{number}", _ZONE: f"zone-{number % 3}"}
    amounts = {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110"}
    return {"metadata": {"name": f"node-{number}", "labels": labels}, "status": {"allocatable": amounts}}


def _pod(number: int, shape: str) -> Obj:
    requests = {"cpu": f"{100 * (1 + number % 4)}m", "memory": f"{128 * (1 + number % 3)}Mi"}
    spec: Obj = {"containers": [{"name": "main", "resources": {"requests": requests}}]}
    if shape == "selector":
        spec["nodeSelector"] = {_ZONE: f"zone-{number % 3}"}
    elif shape == "one class":
        requests.update(cpu="100m", memory="128Mi")
    metadata: Obj = {"name": f"pod-{number}", "namespace": "default"}
    if shape in _BETWEEN_PODS:
        metadata["labels"] = {"app": f"app-{number % 10}"}
        spec |= _between_pods(shape, metadata["labels"])
    return {"metadata": metadata, "spec": spec}


def _between_pods(shape: str, labels: Obj) -> Obj:
    """Ten services: each keeps its pods on different machines, in one zone, or evenly over the zones."""
    selector = {"labelSelector": {"matchLabels": labels}}
    if shape == "spread":
        return {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": _ZONE, **_HARD, **selector}]}
    kind, key = ("podAffinity", _ZONE) if shape == "affinity" else ("podAntiAffinity", "kubernetes.io/hostname")
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key, **selector}]}}}


def _rate(machines: int, pods: int, shape: str, profile: str, *, gangs: bool = False) -> float:
    """Decisions a second; `gangs`: each hundred pods are placed together or not at all."""
    snapshot = Snapshot()
    for number in range(machines):
        snapshot.put_node(node_of(number))
    objects = [_pod(number, shape) for number in range(pods)]
    cache, rng, bound = CandidateCache(snapshot, PROFILES[profile]), random.Random(1), 0
    start = time.thread_time()
    for at in range(0, pods, 100):
        gang = Gang(GangKey("scheduling.k8s.io", "default", f"gang-{at}"), min(100, pods - at)) if gangs else None
        pending = [
            Pending(Key("default", pod["metadata"]["name"]), snapshot.classify(pod), 0, at + index, gang)
            for index, pod in enumerate(objects[at : at + 100])
        ]
        bound += sum(isinstance(decision, Bind) for decision in assign(cache, pending, _NOW, rng))
    elapsed = time.thread_time() - start
    if bound != pods:
        raise RuntimeError(f"only {bound} of {pods} pods found a machine")
    return pods / elapsed


def _preemption_rate(machines: int, pods: int) -> float:
    """Decisions a second when every machine is full of less important pods."""
    snapshot = Snapshot()
    filler = _pod(0, "one class")
    filler["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "8"}
    small = snapshot.classify(filler)
    for number in range(machines):
        snapshot.put_node(node_of(number))
        for part in range(4):
            snapshot.place(Key("default", f"filler-{number}-{part}"), small, f"node-{number}")
    filler["spec"]["priority"] = 1000
    pending = [Pending(Key("default", f"pod-{number}"), snapshot.classify(filler), 1000) for number in range(pods)]
    start = time.thread_time()
    decisions = assign(CandidateCache(snapshot, PROFILES["spreading"]), pending, _NOW, random.Random(1))
    elapsed = time.thread_time() - start
    if not all(isinstance(decision, Preempt) for decision in decisions):
        raise RuntimeError("not every pod found victims")
    return pods / elapsed


def _cold_ms(machines: int) -> float:
    snapshot = Snapshot()
    for number in range(machines):
        snapshot.put_node(node_of(number))
    start = time.thread_time()
    pending = [Pending(Key("default", "pod"), snapshot.classify(_pod(0, "selector")))]
    assign(CandidateCache(snapshot, PROFILES["spreading"]), pending, _NOW, random.Random(1))
    return (time.thread_time() - start) * 1e3


def everyday(number: int) -> Obj:
    """A pod of one of 1,000 services, which keep apart if they can, or spread over the zones, or go where data is."""
    service = number % 1_000
    labels = {"app": f"app-{service}", "pod-template-hash": f"{service * 7919:010x}", "tier": f"tier-{service % 5}"}
    selector = {"labelSelector": {"matchLabels": {"app": labels["app"]}}}
    apart = {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", **selector}}
    spread = {"maxSkew": 2, "topologyKey": _ZONE, **_HARD, **selector}
    beside = {"topologyKey": _ZONE, "labelSelector": {"matchLabels": {"app": f"app-{service // 10 * 10}"}}}
    rules: Sequence[Obj] = (
        {},
        {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}}},
        {"topologySpreadConstraints": [spread]},
        {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]}}},
    )
    pod = _pod(service, "basic")
    pod["metadata"] = {"name": f"pod-{number}", "namespace": "default", "uid": f"uid-{number}", "labels": labels}
    pod["spec"] |= {"nodeName": f"node-{number % 10_000}", **rules[service % 4]}
    return pod


def _resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def _snapshot_figures(machines: int, pods: int) -> dict[str, float]:
    """The growth of the process by a snapshot, without and with what informers keep of the objects; microseconds of
    CPU of single events, from the object to the snapshot."""
    before = _resident_mb()
    snapshot = Snapshot()
    for number in range(machines):
        snapshot.put_node(node_of(number))
    for number in range(pods):
        pod = everyday(number)
        snapshot.place(Key("default", f"pod-{number}"), snapshot.classify(pod, placed=True), pod["spec"]["nodeName"])
    grown = _resident_mb() - before
    kept = [trim_pod(everyday(number)) for number in range(pods)] + [trim_node(node_of(n)) for n in range(machines)]
    figures = {"resident MB": grown, "resident MB with the informers' objects": _resident_mb() - before}
    del kept
    memory.settle()  # As a cell does when it is up.
    rng = random.Random(1)
    numbers = [rng.randrange(pods) for _ in range(2_000)]

    def gone(number: int) -> None:
        snapshot.remove(Key("default", f"pod-{number}"))

    def placed(pod: Obj) -> None:
        one = trim_pod(pod)
        key = Key("default", one["metadata"]["name"])
        snapshot.place(key, snapshot.classify(one, placed=True), one["spec"]["nodeName"])

    def ending(pod: Obj) -> None:
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        placed(pod)

    def beat(node: Obj) -> None:
        snapshot.put_node(trim_node(node))

    figures |= _microseconds("pod removed", gone, numbers)
    figures |= _microseconds("pod placed", placed, [everyday(number) for number in numbers])
    figures |= _microseconds("pod ends", ending, [everyday(number) for number in numbers])
    figures |= _microseconds("heartbeat", beat, [node_of(number % machines) for number in numbers])
    return {f"{machines:,} machines, {pods:,} pods, {name}": figure for name, figure in figures.items()}


def _microseconds(name: str, act: Callable[..., None], subjects: Sequence[object]) -> dict[str, float]:
    times = []
    for subject in subjects:
        start = time.thread_time()
        act(subject)
        times.append((time.thread_time() - start) * 1e6)
    return {f"{name}, us p50": statistics.median(times), f"{name}, us p99": sorted(times)[len(times) * 99 // 100]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=20_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    # First, while there is no freed memory that could be used again.
    results = _snapshot_figures(10_000, 100_000)
    for machines in (1_000, 5_000, 10_000):
        for shape in ("one class", "basic", "selector", *_BETWEEN_PODS):
            name = f"{machines:,} machines, {shape} pods, decisions/s"
            # Ten services of which each has at most one pod on a machine do not fit more.
            pods = min(options.pods, 8 * machines) if shape in _BETWEEN_PODS else options.pods
            results[name] = _rate(machines, pods, shape, "spreading")
    for profile in ("packing", "hybrid"):
        rate = _rate(5_000, options.pods, "basic", profile)
        results[f"5,000 machines, basic pods, {profile}, decisions/s"] = rate
    in_gangs = _rate(5_000, options.pods, "basic", "spreading", gangs=True)
    results["5,000 machines, basic pods in gangs of 100, decisions/s"] = in_gangs
    results["gangs of 100 / pods one by one"] = in_gangs / results["5,000 machines, basic pods, decisions/s"]
    for shape, floor in _KUBE_SCHEDULER_FLOORS.items():
        figure = results[f"5,000 machines, {shape} pods, decisions/s"]
        results[f"5,000 machines, {shape} / kube-scheduler's floor"] = figure / floor
    results["5,000 machines, all full, preemptions/s"] = _preemption_rate(5_000, 200)
    results["10,000 machines, one pod, cold, ms"] = _cold_ms(10_000)
    if options.json:
        print(json.dumps(results))
        return
    for name, figure in results.items():
        print(f"{name:<76} {figure:>12,.1f}")


if __name__ == "__main__":
    main()

"""What pods and the machine use: `/stats/summary` (the kubelet's JSON) and `/metrics/resource` (Prometheus text)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from corral.agent import machine as facts
from corral.agent.machine import Machine
from corral.agent.runtime.api import Container, ContainerState, Runtime, Usage
from corral.base.clock import Clock, rfc3339
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Sample:
    """One container's use at one moment."""

    pod: Obj
    container: Container
    usage: Usage


class Stats:
    """Samples when asked; rates are over the time since the last question."""

    def __init__(self, runtime: Runtime, machine: Machine, directory: Path, clock: Clock) -> None:
        self._runtime = runtime
        self._machine = machine
        self._directory = directory
        self._clock = clock
        self._started = clock.now()
        self._last: dict[str, tuple[float, int]] = {}

    async def sample(self, pods: Iterable[tuple[Obj, Sequence[Container]]]) -> list[Sample]:
        """The use of every running container."""
        samples = []
        for pod, containers in pods:
            for container in containers:
                if container.state is ContainerState.RUNNING:
                    usage = await self._runtime.usage(container.id)
                    if usage is not None:
                        samples.append(Sample(pod, container, usage))
        return samples

    async def summary(self, pods: Iterable[tuple[Obj, Sequence[Container]]]) -> Obj:
        """`/stats/summary`."""
        samples = await self.sample(pods)
        now = self._clock.now()
        moment = self._clock.monotonic()
        by_pod: dict[str, list[Sample]] = {}
        for sample in samples:
            by_pod.setdefault(sample.pod["metadata"]["uid"], []).append(sample)
        told = [self._pod(found, now, moment) for found in by_pod.values()]
        alive = {sample.container.id for sample in samples} | {"", *by_pod}
        self._last = {key: value for key, value in self._last.items() if key in alive}
        return {"node": self._node(samples, now, moment), "pods": told}

    def _node(self, samples: Sequence[Sample], now: datetime, moment: float) -> Obj:
        total = self._machine.capacity.get("memory", 0)
        available = facts.memory_available()
        disk = facts.disk_used_share(self._directory)
        size = self._machine.capacity.get("ephemeral-storage", 0)
        return {
            "nodeName": self._machine.name,
            "startTime": rfc3339(self._started),
            "cpu": self._cpu("", facts.cpu_nanoseconds(), now, moment),
            "memory": {
                "time": rfc3339(now),
                "availableBytes": available,
                "usageBytes": total - available,
                "workingSetBytes": total - available,
            },
            "fs": {
                "time": rfc3339(now),
                "capacityBytes": size,
                "usedBytes": int(size * disk),
                "availableBytes": int(size * (1 - disk)),
            },
        }

    def _pod(self, samples: Sequence[Sample], now: datetime, moment: float) -> Obj:
        pod = samples[0].pod
        metadata = pod["metadata"]
        cpu = sum(sample.usage.cpu_ns for sample in samples)
        return {
            "podRef": {
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata["uid"],
            },
            "startTime": (pod.get("status") or {}).get("startTime"),
            "containers": [self._container(sample, now, moment) for sample in samples],
            "cpu": self._cpu(metadata["uid"], cpu, now, moment),
            "memory": {
                "time": rfc3339(now),
                "usageBytes": sum(sample.usage.memory_bytes for sample in samples),
                "workingSetBytes": sum(sample.usage.working_set_bytes for sample in samples),
                "rssBytes": sum(sample.usage.rss_bytes for sample in samples),
            },
            "process_stats": {"process_count": sum(sample.usage.pids for sample in samples)},
        }

    def _container(self, sample: Sample, now: datetime, moment: float) -> Obj:
        started = sample.container.started or sample.container.created
        return {
            "name": sample.container.name,
            "startTime": rfc3339(started),
            "cpu": self._cpu(sample.container.id, sample.usage.cpu_ns, now, moment),
            "memory": {
                "time": rfc3339(now),
                "usageBytes": sample.usage.memory_bytes,
                "workingSetBytes": sample.usage.working_set_bytes,
                "rssBytes": sample.usage.rss_bytes,
            },
        }

    def _cpu(self, key: str, total: int, now: datetime, moment: float) -> Obj:
        before = self._last.get(key)
        self._last[key] = (moment, total)
        cpu: Obj = {"time": rfc3339(now), "usageCoreNanoSeconds": total}
        if before is not None and moment > before[0]:
            cpu["usageNanoCores"] = max(0, int((total - before[1]) / (moment - before[0])))
        return cpu

    async def resource_metrics(self, pods: Iterable[tuple[Obj, Sequence[Container]]]) -> str:
        """`/metrics/resource`."""
        samples = await self.sample(pods)
        used = self._machine.capacity.get("memory", 0) - facts.memory_available()
        families: dict[str, tuple[str, list[tuple[str, float]]]] = {
            "container_cpu_usage_seconds_total": ("counter", [_line(s, s.usage.cpu_ns / 1e9) for s in samples]),
            "container_memory_working_set_bytes": ("gauge", [_line(s, s.usage.working_set_bytes) for s in samples]),
            "container_start_time_seconds": ("gauge", [_line(s, _epoch(s.container)) for s in samples]),
            "node_cpu_usage_seconds_total": ("counter", [("", facts.cpu_nanoseconds() / 1e9)]),
            "node_memory_working_set_bytes": ("gauge", [("", used)]),
            "resource_scrape_error": ("gauge", [("", 0)]),
        }
        lines = []
        for name, (kind, values) in families.items():
            lines.append(f"# TYPE {name} {kind}")
            lines += [f"{name}{labels} {value}" for labels, value in values]
        return "\n".join(lines) + "\n"


def _line(sample: Sample, value: float) -> tuple[str, float]:
    metadata = sample.pod["metadata"]
    labels = {"container": sample.container.name, "namespace": metadata.get("namespace", ""), "pod": metadata["name"]}
    return "{" + ",".join(f'{name}="{text}"' for name, text in labels.items()) + "}", value


def _epoch(container: Container) -> float:
    return (container.started or container.created).timestamp()

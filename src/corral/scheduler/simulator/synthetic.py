"""A cell that does not exist, of the shape that Google has published of Borg's; for measuring how well pods are packed.

What is published, and how it is used:

- Machines: the shapes and their counts in the 2011 trace (Reiss et al., "Heterogeneity and dynamicity of clouds at
  scale", SoCC'12, table 1), in parts of the largest machine. Here the largest has 64 hyperthreads and 256 GiB.
- Totals: requests are 1.0 of the cell's cpu and 0.8 of its memory (same paper: "more than 100 %" and "more than 80 %"
  at almost any time). Production has 70 % of the cpu and 55 % of the memory (Verma et al., "Large-scale cluster
  management at Google with Borg", EuroSys'15, section 2.1).
- Tasks on a machine: median 9, 90th percentile 25 (section 6.2), which is a mean of 12.4 if log-normal.
- Sizes: spread over orders of magnitude, no sweet spots but for a few whole numbers of cores, cpu and memory hardly
  correlated (figure 8, section 5.4). Log-normal and independent; the standard deviation of the logarithm follows from
  the mean and from 20 % of non-production tasks asking for less than 0.1 cores (section 3.2).
- Tasks of a job: the 95th percentiles are 3 for production and 498 for best-effort batch, in cells of 12,000 machines
  (Tirmazi et al., "Borg: the Next Generation", EuroSys'20), taken as Pareto tails. A smaller cell is a model to scale:
  its batch jobs have fewer tasks in proportion.
- Constraints: 6 % of tasks ask for a kind of machine (SoCC'12), here a platform in proportion to how many machines have
  it. Where a job is too large for that, it is a wish (EuroSys'15, section 5.1).

Not published, so assumed: production is 40 % of the tasks; no task asks for more than half of the largest machine; no
job has more than a twentieth of all tasks; a tenth of the production jobs with several tasks keep them on different
machines.
"""

import math
import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass

from corral.kinds.types import Obj

PRODUCTION, BATCH = 200, 110
"""Priorities; those of Borg's bands (EuroSys'20, table 1)."""
PLATFORM = "corral.dev/platform"
_CORES, _GIB = 64, 256
# cpu and memory in parts of the largest machine, and how many of 12,583 machines are such.
_SHAPES = (
    (0.50, 0.50, 6732),
    (0.50, 0.25, 3863),
    (0.50, 0.75, 1001),
    (1.00, 1.00, 795),
    (0.25, 0.25, 126),
    (0.50, 0.12, 52),
    (0.50, 0.03, 5),
    (0.50, 0.97, 5),
    (1.00, 0.50, 3),
    (0.50, 0.06, 1),
)
_PLATFORMS = {0.25: "a", 0.50: "b", 1.00: "c"}
_PUBLISHED_MACHINES, _FEWEST_OF_20 = 12_000, 3
_TASKS_PER_MACHINE = 12.4
_CPU_DEMAND, _MEMORY_DEMAND = 1.0, 0.8
_SIGMA = 1.6
_LARGEST_TASK, _LARGEST_JOB = 0.5, 0.05
_PICKY, _APART, _WHOLE_CORES = 0.06, 0.1, 0.1


@dataclass(frozen=True)
class Cell:
    """Machines as Nodes and the workload as Pods, in the order in which the jobs arrived."""

    machines: Sequence[Obj]
    pods: Sequence[Obj]


@dataclass(frozen=True)
class _Band:
    name: str
    priority: int
    tasks: float
    cpu: float
    memory: float
    largest_of_20: int
    """How many tasks one job of 20 has at least, in a cell of the published size."""


@dataclass
class _Job:
    band: _Band
    name: str
    tasks: int
    cpu: float
    """In thousandths of a core."""
    memory: float
    """In MiB."""


_BANDS = (
    _Band("production", PRODUCTION, tasks=0.4, cpu=0.70, memory=0.55, largest_of_20=3),
    _Band("batch", BATCH, tasks=0.6, cpu=0.30, memory=0.45, largest_of_20=498),
)


def borg_like(machines: int, rng: random.Random) -> Cell:
    """A cell of about this many machines' worth of work; the same `rng` state gives the same cell.

    The requests come to all of the cell's cpu, so that it takes more machines than these to hold them.
    """
    nodes = _machines(machines, rng)
    capacity = sum(_cpu(node) for node in nodes), sum(_memory(node) for node in nodes)
    jobs = [job for band in _BANDS for job in _jobs(band, machines, capacity, rng)]
    rng.shuffle(jobs)
    platforms = [node["metadata"]["labels"][PLATFORM] for node in nodes]
    return Cell(nodes, [pod for job in jobs for pod in _pods(job, platforms, rng)])


def _machines(count: int, rng: random.Random) -> list[Obj]:
    """The shapes in their published shares, in random order."""
    total = sum(shape[2] for shape in _SHAPES)
    wanted = [(cpu, memory, count * share / total) for cpu, memory, share in _SHAPES]
    chosen = [(cpu, memory) for cpu, memory, amount in wanted for _ in range(int(amount))]
    rest = sorted(wanted, key=lambda shape: int(shape[2]) - shape[2])
    chosen += [(cpu, memory) for cpu, memory, _ in rest[: count - len(chosen)]]
    rng.shuffle(chosen)
    return [_node(number, cpu, memory) for number, (cpu, memory) in enumerate(chosen)]


def _node(number: int, cpu: float, memory: float) -> Obj:
    name = f"machine-{number:05}"
    labels = {"kubernetes.io/hostname": name, PLATFORM: _PLATFORMS[cpu]}
    amounts = {"cpu": f"{round(cpu * _CORES * 1000)}m", "memory": f"{round(memory * _GIB * 1024)}Mi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": amounts, "capacity": amounts},
    }


def _cpu(node: Obj) -> float:
    return float(node["status"]["allocatable"]["cpu"][:-1])


def _memory(node: Obj) -> float:
    return float(node["status"]["allocatable"]["memory"][:-2])


def _jobs(band: _Band, machines: int, capacity: tuple[float, float], rng: random.Random) -> list[_Job]:
    """Jobs of `band` with its share of the tasks, that ask for its share of the resources."""
    left = round(band.tasks * _TASKS_PER_MACHINE * machines)
    largest = max(1, round(_LARGEST_JOB * left / band.tasks))
    tail = math.log(20) / math.log(max(_FEWEST_OF_20, band.largest_of_20 * machines / _PUBLISHED_MACHINES))
    tasks: list[int] = []
    while left > 0:
        tasks.append(min(int(rng.paretovariate(tail)), largest, left))
        left -= tasks[-1]
    cpu = _sizes(tasks, _CPU_DEMAND * band.cpu * capacity[0], _LARGEST_TASK * _CORES * 1000, rng)
    memory = _sizes(tasks, _MEMORY_DEMAND * band.memory * capacity[1], _LARGEST_TASK * _GIB * 1024, rng)
    cpu = [round(size / 1000) * 1000 if size > 1000 and rng.random() < _WHOLE_CORES else size for size in cpu]
    return [
        _Job(band, f"{band.name}-{number:05}", *job) for number, job in enumerate(zip(tasks, cpu, memory, strict=True))
    ]


def _sizes(tasks: Sequence[int], total: float, largest: float, rng: random.Random) -> list[float]:
    """For each job what one of its `tasks` asks for: log-normal, in all `total`, none more than `largest`."""
    sizes = [rng.lognormvariate(0, _SIGMA) for _ in tasks]
    while True:
        scale = total / sum(map(operator.mul, sizes, tasks))
        if max(sizes) * scale <= largest:
            return [size * scale for size in sizes]
        sizes = [size if size * scale <= largest else rng.lognormvariate(0, _SIGMA) for size in sizes]


def _pods(job: _Job, platforms: Sequence[str], rng: random.Random) -> list[Obj]:
    requests = {"cpu": f"{max(1, round(job.cpu))}m", "memory": f"{max(1, round(job.memory))}Mi"}
    spec: Obj = {
        "priority": job.band.priority,
        "priorityClassName": job.band.name,
        "containers": [{"name": "main", "image": "main", "resources": {"requests": requests}}],
    }
    affinity = _affinity(job, platforms, rng)
    if affinity:
        spec["affinity"] = affinity
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{job.name}-{task}", "namespace": "default", "labels": {"job": job.name}},
            "spec": spec,
        }
        for task in range(job.tasks)
    ]


def _affinity(job: _Job, platforms: Sequence[str], rng: random.Random) -> Obj:
    found: Obj = {}
    if rng.random() < _PICKY:
        platform = rng.choice(platforms)
        term = {"matchExpressions": [{"key": PLATFORM, "operator": "In", "values": [platform]}]}
        if job.tasks * 2 > platforms.count(platform):
            wish = [{"weight": 1, "preference": term}]
            found["nodeAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": wish}
        else:
            found["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    if job.band.priority == PRODUCTION and job.tasks > 1 and rng.random() < _APART:
        apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"job": job.name}}}
        found["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    return found

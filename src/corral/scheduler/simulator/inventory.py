"""Machines and workloads from CSV files, as Nodes and Pods. Pure.

A machine's row: `name`, `count` (so many alike, numbered), `cpu`, `memory`, `gpu`, `gpu-model`, `ephemeral-storage`,
`pods`, `zone`, `labels`, `taints`. A workload's row: `name`, `namespace`, `count`, `cpu`, `memory`, `gpu`, `gpu-milli`,
`gpu-model`, `ephemeral-storage`, `priority` (a number, a band or a PriorityClass), `start` and `duration` or `end`
(seconds), `selector`, `tolerations`. A column whose name has a slash (`example.com/fpga`) is a resource of that name.
The columns of Alibaba's public cluster traces of 2023 (`openb`) are understood, too.
"""

from collections.abc import Mapping
from typing import Any

from corral.kinds.types import Key, Obj
from corral.scheduler.simulator.bands import BANDS, PRIORITIES
from corral.scheduler.simulator.csvtable import Row, read
from corral.scheduler.simulator.scenario import Scenario, Span

_ZONE = "topology.kubernetes.io/zone"
_HOSTNAME = "kubernetes.io/hostname"
_GPU = "nvidia.com/gpu"
_GPU_MILLI = "corral.dev/gpu-milli"
_WHOLE_GPU = 1000
_MOST = 2_000_000
"""Copies in one file; they take about a kilobyte of memory each."""
_GPU_MODEL = "nvidia.com/gpu.product"
_MOST_PODS = "110"
"""What a kubelet allows if nobody says otherwise."""

_MACHINE = (
    *("name", "count", "cpu", "memory", "gpu", "gpu-model", "ephemeral-storage", "pods", "zone", "labels", "taints"),
)
_MACHINE_COLUMNS: Mapping[str, str] = {
    **{name: name for name in _MACHINE},
    "sn": "name",
    "cpu-milli": "cpu-milli",
    "memory-mib": "memory-mib",
    "model": "gpu-model",
}
_WORKLOAD = (
    *("name", "namespace", "count", "cpu", "memory", "gpu", "gpu-milli", "gpu-model", "ephemeral-storage"),
    *("priority", "start", "duration", "end", "selector", "tolerations"),
)
_WORKLOAD_COLUMNS: Mapping[str, str] = {
    **{name: name for name in _WORKLOAD},
    "cpu-milli": "cpu-milli",
    "memory-mib": "memory-mib",
    "num-gpu": "gpu",
    "gpu-spec": "gpu-model",
    "creation-time": "start",
    "deletion-time": "end",
    # openb's, of no use here.
    **dict.fromkeys(("qos", "pod-phase", "scheduled-time"), ""),
}


_OWNER: Obj = {"apiVersion": "apps/v1", "kind": "StatefulSet", "uid": "", "controller": True}
"""Whoever it is that makes the pods anew when they are gone."""


def _is_resource(name: str) -> bool:
    return "/" in name.strip("/")


def machines(text: str, file: str) -> Scenario:
    """The machines of a CSV file.

    Raises:
        CorralError: names file, line, column, reason and remedy.
    """
    found: list[Obj] = []
    taken: dict[str, int] = {}
    for row in read(text, file, _MACHINE_COLUMNS, extra=_is_resource):
        machine_labels, parts = _machine(row)
        for name in _names(row, "machine", taken):
            labels = {_HOSTNAME: name, **machine_labels}
            metadata: Obj = {"name": name, "labels": labels}
            found.append({"apiVersion": "v1", "kind": "Node", "metadata": metadata, **parts})
    return Scenario(machines=found)


def _machine(row: Row) -> tuple[dict[str, str], Obj]:
    allocatable = _amounts(row)
    for resource in ("cpu", "memory"):
        if resource not in allocatable:
            raise row.wrong(resource, "a machine needs it", "say how much the machine has, such as 16 or 64Gi")
    gpus = row.count("gpu", most=1024)
    if gpus:
        allocatable[_GPU] = str(gpus)
    allocatable["pods"] = str(row.count("pods", int(_MOST_PODS)))
    labels = row.pairs("labels")
    if row.text("zone"):
        labels[_ZONE] = row.text("zone")
    if row.text("gpu-model"):
        labels[_GPU_MODEL] = row.text("gpu-model")
    taints = [_taint(row, text) for text in row.words("taints")]
    spec: Obj = {"taints": taints} if taints else {}
    return labels, {"spec": spec, "status": {"allocatable": allocatable}}


def _taint(row: Row, text: str) -> Obj:
    pair, colon, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    if not colon or not key or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise row.wrong("taints", f"{text!r} is not a taint", "write key=value:NoSchedule")
    return {"key": key, "value": value, "effect": effect}


def workloads(text: str, file: str) -> Scenario:
    """The workloads of a CSV file, as pods that wait, in the order of `start`, then of the rows.

    Raises:
        CorralError: names file, line, column, reason and remedy.
    """
    pods: list[tuple[Span, Obj]] = []
    taken: dict[str, int] = {}
    for row in read(text, file, _WORKLOAD_COLUMNS, extra=_is_resource):
        spec, span = _pod_spec(row), _span(row)
        namespace = row.text("namespace", "default")
        for name in _names(row, "workload", taken):
            labels, owner = {"app": row.text("name", "workload")}, {**_OWNER, "name": row.text("name", name)}
            metadata: Obj = {"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
            pods.append((span, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    pods.sort(key=lambda pod: pod[0].start)
    spans = {Key(pod["metadata"]["namespace"], pod["metadata"]["name"]): span for span, pod in pods}
    return Scenario(pods=[pod for _, pod in pods], spans=spans)


def _names(row: Row, kind: str, taken: dict[str, int]) -> list[str]:
    """The names of the copies that a row stands for; no other row has them."""
    name, count = row.text("name"), row.count("count", 1)
    if not name:
        name = f"{kind}-{row.line}"
    if len(taken) + count > _MOST:
        raise row.wrong("count", f"the file comes to more than {_MOST:,} {kind}s", "simulate a part of them")
    names = [name] if "count" not in row.cells else [f"{name}-{number}" for number in range(count)]
    for one in names:
        if one in taken:
            raise row.wrong("name", f"{one!r} is the name of line {taken[one]}, too", "give each row a name of its own")
        taken[one] = row.line
    return names


def _amounts(row: Row) -> dict[str, str]:
    """cpu, memory, ephemeral storage and extended resources."""
    found = {}
    for resource in ("cpu", "memory", "ephemeral-storage", *filter(_is_resource, row.cells)):
        amount = row.quantity(resource, resource)
        if amount:
            found[resource] = amount
    if "cpu-milli" in row.cells:
        found["cpu"] = f"{row.count('cpu-milli', most=10**9)}m"
    if "memory-mib" in row.cells:
        found["memory"] = f"{row.count('memory-mib', most=10**10)}Mi"
    return found


def _pod_spec(row: Row) -> Obj:
    requests = _amounts(row)
    requests |= _gpus(row)
    spec: dict[str, Any] = {"containers": [{"name": "main", "resources": {"requests": requests}}]}
    spec["priority"] = _priority(row)
    selector = row.pairs("selector")
    if selector:
        spec["nodeSelector"] = selector
    models = row.words("gpu-model")
    if models:
        wanted = {"matchExpressions": [{"key": _GPU_MODEL, "operator": "In", "values": models}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [wanted]}}
        spec["affinity"] = {"nodeAffinity": required}
    tolerations = [_toleration(row, text) for text in row.words("tolerations")]
    if tolerations:
        spec["tolerations"] = tolerations
    return spec


def _gpus(row: Row) -> dict[str, str]:
    """Whole GPUs, or thousandths of one."""
    milli = row.count("gpu-milli", most=_WHOLE_GPU)
    count = row.count("gpu", int(milli > 0), most=1024)
    if not count:
        return {}
    if milli in (0, _WHOLE_GPU):
        return {_GPU: str(count)}
    if count > 1:
        raise row.wrong(
            "gpu-milli", f"{milli} thousandths of each of {count} GPUs", "ask for a part of one GPU, or for whole ones"
        )
    return {_GPU_MILLI: str(milli)}


def _toleration(row: Row, text: str) -> Obj:
    pair, colon, effect = text.rpartition(":")
    key, equals, value = (pair if colon else effect).partition("=")
    if colon and effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise row.wrong("tolerations", f"{effect!r} is no effect of a taint", "write key=value:NoSchedule, or key")
    toleration: Obj = (
        {"key": key, "operator": "Equal", "value": value} if equals else {"key": key, "operator": "Exists"}
    )
    return {**toleration, "effect": effect} if colon and effect else toleration


def _priority(row: Row) -> int:
    text = row.text("priority")
    if not text or text.lstrip("+-").isdecimal():
        return row.count("priority", least=-(2**31), most=2**31 - 1)
    value = PRIORITIES.get(text, PRIORITIES.get(f"corral-{text}"))
    if value is None:
        names = ", ".join([*BANDS[1:], *PRIORITIES])
        raise row.wrong("priority", f"there is no priority {text!r}", f"write a number, or one of {names}")
    return value


def _span(row: Row) -> Span:
    start = row.number("start", "seconds", 0.0) or 0.0
    duration, end = row.number("duration", "seconds"), row.number("end", "seconds")
    if end is not None and duration is None:
        if end < start:
            raise row.wrong("end", f"{end:g} is before the start at {start:g}", "write an end after the start")
        duration = end - start
    return Span(start, duration)

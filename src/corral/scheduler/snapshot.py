"""What the scheduler believes of the cell: arrays of machines by resources, kept up to date by events.

A row is a machine, a column a resource; a pod takes one unit of the column `pods`. Pods that were decided but not yet
seen bound are placed like any other ("assumed"); when the binding fails they are removed again. A machine that goes
while pods are on it keeps its row until they are gone too, and a pod may arrive before the machine it is bound to.

Two things let derived data stay fresh at little cost: `shape` counts changes of the machines themselves (labels,
taints, coming and going), and `used` lists the rows whose free amounts changed.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import device_kind, read_devices
from corral.kinds.podspec import HostPort
from corral.kinds.taints import Taint
from corral.kinds.types import Key, Obj
from corral.scheduler.devices import Devices
from corral.scheduler.images import Images, read_images
from corral.scheduler.labels import LabelColumns
from corral.scheduler.machine import Machine, read_allocatable, read_machine
from corral.scheduler.peers import ENDING, Peers, peers_fingerprint, read_peers
from corral.scheduler.podclass import PodClass, fingerprint, read_class
from corral.scheduler.ties import Ties
from corral.scheduler.volumes import Volumes

Rows: TypeAlias = slice | NDArray[np.intp]
"""Some rows of the arrays."""

_FIRST_ROWS = 16
_BASE_RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")
PODS = "pods"
_CLASSES = ("_classes", "_alone")
_FLAT = frozenset({"_by_name", "_free", "_taint_numbers", "_where", "columns", "nominations", "taint_sets"})
"""Large collections of things that never change: copying these needs no look at each."""


class RowLog:
    """Row numbers in the order in which something happened to them, bounded; readers remember how far they read."""

    def __init__(self, keep: int = 65_536) -> None:
        self._rows: list[int] = []
        self._base = 0
        self._keep = keep

    @property
    def end(self) -> int:
        """Where a reader who has seen everything stands."""
        return self._base + len(self._rows)

    def add(self, row: int) -> None:
        """Note that something happened to `row`."""
        self._rows.append(row)
        if len(self._rows) > self._keep:
            drop = self._keep // 2
            del self._rows[:drop]
            self._base += drop

    def since(self, position: int) -> set[int] | None:
        """The rows noted after `position`; None if that is no longer known."""
        return set(self._rows[position - self._base :]) if position >= self._base else None


@dataclass(slots=True)
class _Row:
    """The parts of a machine that are no numbers."""

    name: str
    owner: object
    """Which snapshot may change it."""
    machine: Machine | None = None
    allocatable: Mapping[str, int] = field(default_factory=dict)
    pods: dict[Key, PodClass] = field(default_factory=dict)

    def copy(self, owner: object, classes: Mapping[PodClass, PodClass]) -> "_Row":
        """Another one, with pods of `classes` instead of those that they replace."""
        pods = {key: classes.get(found, found) for key, found in self.pods.items()} if classes else self.pods.copy()
        return _Row(self.name, owner, self.machine, self.allocatable, pods)


@dataclass(frozen=True)
class Usage:
    """One machine as plain data, for comparing and explaining."""

    machine: Machine | None
    allocatable: Mapping[str, int]
    requested: Mapping[str, int]
    load: tuple[float, float]
    ports: Mapping[HostPort, int]
    pods: frozenset[Key]
    devices: Mapping[int, int]
    """Thousandths taken of each GPU of which anything is taken."""


class Snapshot:
    """The arrays and what belongs to them. Public attributes are for reading."""

    def __init__(self) -> None:
        self.columns: dict[str, int] = {name: index for index, name in enumerate(_BASE_RESOURCES)}
        self.allocatable: NDArray[np.int64] = np.zeros((_FIRST_ROWS, len(self.columns)), dtype=np.int64)
        self.requested: NDArray[np.int64] = np.zeros_like(self.allocatable)
        self.by_priority: dict[int, NDArray[np.int64]] = {}
        """`requested` by the pods of each priority that there is."""
        self.load: NDArray[np.float64] = np.zeros((_FIRST_ROWS, 2))
        """cpu and memory requested, where a pod that asks for nothing counts as a small one; for scores."""
        self.scale: NDArray[np.float64] = np.ones((_FIRST_ROWS, 2))
        """What one unit of cpu and of memory is as a part of all that the machine has."""
        self.alive: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self.unschedulable: NDArray[np.bool_] = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self.taint_sets: list[tuple[Taint, ...]] = [()]
        self.taints: NDArray[np.int32] = np.zeros(_FIRST_ROWS, dtype=np.int32)
        """Each row's index in `taint_sets`."""
        self.labels = LabelColumns(_FIRST_ROWS)
        self.devices = Devices(_FIRST_ROWS)
        self.ports: dict[tuple[str, int], dict[int, Counter[str]]] = {}
        """(protocol, port) -> row -> how often each address is claimed."""
        self.nominations: dict[Key, str] = {}
        """Pods that are placed only to keep the room for them that pods about to end still take, and where."""
        self.ties = Ties(self._placed)
        self.volumes = Volumes()
        self.images = Images()
        self.shape = 0
        self.used = RowLog()
        self._population: Counter[int] = Counter()
        self._taint_numbers: dict[tuple[Taint, ...], int] = {(): 0}
        self._rows: list[_Row | None] = [None] * _FIRST_ROWS
        self._by_name: dict[str, int] = {}
        self._free = list(range(_FIRST_ROWS - 1, -1, -1))
        self._where: dict[Key, int] = {}
        self._classes: weakref.WeakValueDictionary[bytes, PodClass] = weakref.WeakValueDictionary()
        self._alone: weakref.WeakValueDictionary[bytes, PodClass] = weakref.WeakValueDictionary()
        """By fingerprint, some class that differs in its peers at most."""
        self._alive_count = 0
        self._owner = object()
        """Marks the rows that are this snapshot's alone; others are shared with a copy until one of them is touched."""
        self._moved: Mapping[PodClass, PodClass] = {}
        """In a copy: what stands for the classes of pods on rows that are shared still."""

    def copy(self) -> "Snapshot":
        """Another snapshot with the same content, to try things on.

        Machines and their pods are copied when they are touched, so it takes some ten milliseconds for 10,000 machines
        with 100,000 pods of 1,000 classes. Whatever is not named here is copied deeply, so that what a snapshot gains
        later is at worst copied slowly.
        """
        if self._moved:
            for row in self._by_name.values():
                self._own(row)
            self._moved = {}
        self._owner = object()
        other = Snapshot.__new__(Snapshot)
        other.ties, ties = self.ties.copy(other._placed)
        classes = {known: known.on(ties) for known in self._classes.values()} if ties else {}
        memo: dict[int, Any] = {id(tie): new for tie, new in ties.items()} | {
            id(known): new for known, new in classes.items()
        }
        special: dict[str, Any] = {
            "ties": other.ties,
            "labels": self.labels.copy(),
            "volumes": self.volumes.copy(),
            "images": self.images.copy(),
            "used": RowLog(),
            "_rows": self._rows.copy(),
            "_owner": object(),
            "_moved": classes,
            **{name: weakref.WeakValueDictionary(_replaced(getattr(self, name), classes)) for name in _CLASSES},
        }
        for name, value in vars(self).items():
            if name in special:
                value = special[name]
            elif name in _FLAT:
                value = value.copy()
            else:
                value = deepcopy(value, memo)
            setattr(other, name, value)
        return other

    # Machines

    def __len__(self) -> int:
        """How many machines there are."""
        return self._alive_count

    def row(self, name: str) -> int | None:
        """The row of the machine `name`, if it is there."""
        row = self._by_name.get(name)
        return row if row is not None and self.alive[row] else None

    def machine(self, row: int) -> Machine:
        """The machine of a row that is alive."""
        record = self._rows[row]
        if record is None or record.machine is None:
            raise KeyError(row)
        return record.machine

    def rows(self) -> Iterable[int]:
        """The rows of all machines."""
        return (int(row) for row in np.flatnonzero(self.alive))

    def put_node(self, node: Obj) -> None:
        """A Node was added or changed.

        Raises:
            ValueError: a quantity of its allocatable amounts cannot be read; the snapshot is as before.
        """
        machine, allocatable = read_machine(node), read_allocatable(node)
        row = self._row_for(machine.name)
        record = self._own(row)
        if allocatable != record.allocatable:
            columns = [self._column(name) for name in allocatable]
            self.allocatable[row] = 0
            self.allocatable[row, columns] = list(allocatable.values())
            self.scale[row] = 1.0 / np.maximum(self.allocatable[row, :2], 1)
            self.shape += self.devices.set(row, *device_kind(allocatable))
            record.allocatable = allocatable
            self.used.add(row)
            self._give_devices(row)
        self.images.set(row, read_images(node))
        if machine != record.machine:
            if record.machine is None:
                self._alive_count += 1
            record.machine = machine
            self._write_shape(row, machine)

    def _give_devices(self, row: int) -> None:
        """Pods that were there before the machine or its devices were known have none yet."""
        record = self._own(row)
        for key, pod_class in record.pods.items():
            if pod_class.gpu is not None and not pod_class.devices:
                devices = self.devices.choose(row, pod_class.gpu)
                record.pods[key] = self._having(pod_class, devices)
                self.devices.give(row, devices, pod_class.gpu)

    def _write_shape(self, row: int, machine: Machine) -> None:
        self.alive[row] = True
        self.unschedulable[row] = machine.unschedulable
        number = self._taint_numbers.get(machine.taints)
        if number is None:
            number = self._taint_numbers[machine.taints] = len(self.taint_sets)
            self.taint_sets.append(machine.taints)
        self.taints[row] = number
        self.labels.set(row, machine.labels)
        self.shape += 1

    def remove_node(self, name: str) -> None:
        """A Node is gone."""
        row = self._by_name.get(name)
        if row is None or not self.alive[row]:
            return
        record = self._own(row)
        record.machine, record.allocatable = None, {}
        self.alive[row] = False
        self.allocatable[row] = 0
        self.scale[row] = 1.0
        self.images.set(row, ())
        self.devices.set(row, "", 0)
        self._alive_count -= 1
        self.shape += 1
        self._release(row)

    # Pods

    def classify(self, pod: Obj, *, placed: bool = False) -> PodClass:
        """The equivalence class of a pod; that of a placed pod does not depend on where it is, but on its GPUs.

        Raises:
            ValueError, StatusError: the pod asks for something that makes no sense.
        """
        node_name = "" if placed else ((pod.get("spec") or {}).get("nodeName") or "")
        alone = fingerprint(pod, node_name)
        mark = alone + peers_fingerprint(pod)
        found = self._classes.get(mark)
        if found is None:
            found = self._read_class(pod, node_name, alone, mark)
            self._classes[mark] = self._alone[alone] = found
        return self._having(found, read_devices(pod)) if placed and found.gpu is not None else found

    def _read_class(self, pod: Obj, node_name: str, alone: bytes, mark: bytes) -> PodClass:
        living = self._classes.get(mark.removesuffix(ENDING)) if mark.endswith(ENDING) else None
        if living is not None:
            peers = replace(living.peers, terminating=True)
            self.ties.resemble(peers, living.peers)
            return living.among(peers, mark)
        peers = read_peers(pod, self.ties.tie)
        like = self._alone.get(alone)
        if like is not None:
            return like.among(peers, mark)
        return read_class(pod, node_name, peers, alone, mark, self._column)

    def _having(self, pod_class: PodClass, devices: tuple[int, ...]) -> PodClass:
        """The class of pods that have these GPUs."""
        if devices == pod_class.devices:
            return pod_class
        new = pod_class.having(devices)
        return self._classes.setdefault(new.mark, new)

    def place(self, key: Key, pod_class: PodClass, node: str) -> None:
        """The pod takes its share of the machine `node`: it was seen there, or it is assumed."""
        row = self._by_name.get(node)
        at = self._where.get(key)
        if at is not None:
            known = self._own(at).pods[key]
            if at == row and pod_class.gpu is not None and not pod_class.devices:
                pod_class = self._having(pod_class, known.devices)
            if at == row and known is pod_class and key not in self.nominations:
                return
            self.remove(key)
        row = self._row_for(node)
        ask = pod_class.gpu
        if ask is not None:
            pod_class = self._having(pod_class, pod_class.devices or self.devices.choose(row, ask))
            self.devices.take(row, pod_class, ask, 1)
        self._own(row).pods[key] = pod_class
        self._where[key] = row
        self.requested[row, : len(pod_class.taken)] += pod_class.taken
        self._count_priority(row, pod_class, 1)
        self.load[row] += pod_class.load
        for port in pod_class.ports:
            self.ports.setdefault((port.protocol, port.port), {}).setdefault(row, Counter())[port.ip] += 1
        self.ties.count(pod_class.peers, row, 1, self.shape)
        if pod_class.claims:
            machine = self._record(row).machine
            self.volumes.place(key, pod_class.claims, node, machine.labels if machine is not None else {})
        self.used.add(row)

    def nominate(self, key: Key, pod_class: PodClass, node: str) -> None:
        """Keep room for the pod on `node`, where others must end before it fits."""
        row, ask = self._by_name.get(node), pod_class.gpu
        if ask is not None and row is not None and not pod_class.devices:
            ending = [pod for pod in self._own(row).pods.values() if pod.peers.terminating]
            pod_class = self._having(pod_class, self.devices.choose_without(row, ask, ending))
        self.place(key, pod_class, node)
        self.nominations[key] = node

    @contextmanager
    def without_nomination(self, key: Key) -> Iterator[str]:
        """For a while, do not keep room for the pod; gives the machine where that is otherwise, or an empty text."""
        node = self.nominations.get(key, "")
        if not node:
            yield ""
            return
        pod_class = self.class_of(key)
        self.remove(key)
        try:
            yield node
        finally:
            self.nominate(key, pod_class, node)

    def _count_priority(self, row: int, pod_class: PodClass, sign: int) -> None:
        priority = pod_class.peers.priority
        self._population[priority] += sign
        if not self._population[priority]:
            del self._population[priority], self.by_priority[priority]
            return
        if priority not in self.by_priority:
            self.by_priority[priority] = np.zeros_like(self.requested)
        self.by_priority[priority][row, : len(pod_class.taken)] += sign * pod_class.taken

    def pods(self, row: int) -> list[tuple[Key, PodClass]]:
        """The pods placed on a row, first placed first."""
        return list(self._own(row).pods.items())

    def remove(self, key: Key) -> bool:
        """The pod takes nothing any more; whether it took something."""
        row = self._where.pop(key, None)
        if row is None:
            return False
        self.nominations.pop(key, None)
        pod_class = self._own(row).pods.pop(key)
        if pod_class.gpu is not None:
            self.devices.take(row, pod_class, pod_class.gpu, -1)
        self.requested[row, : len(pod_class.taken)] -= pod_class.taken
        self._count_priority(row, pod_class, -1)
        self.load[row] -= pod_class.load
        for port in pod_class.ports:
            self._free_port(row, port)
        self.ties.count(pod_class.peers, row, -1, self.shape)
        if pod_class.claims:
            self.volumes.remove(key, pod_class.claims, self._record(row).name)
        self.used.add(row)
        self._release(row)
        return True

    def _free_port(self, row: int, port: HostPort) -> None:
        users = self.ports[port.protocol, port.port]
        users[row][port.ip] -= 1
        if not users[row][port.ip]:
            del users[row][port.ip]
        if not users[row]:
            del users[row]
        if not users:
            del self.ports[port.protocol, port.port]

    def put_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace has these labels now; None: it is gone."""
        if self.ties.set_namespace(name, labels):
            self.shape += 1

    def _placed(self) -> Iterator[tuple[Peers, int]]:
        for row in self._by_name.values():
            for pod_class in self._record(row).pods.values():
                yield pod_class.peers, row

    def node_of(self, key: Key) -> str:
        """Where a pod is placed; empty if it is not."""
        row = self._where.get(key)
        return self._record(row).name if row is not None else ""

    def class_of(self, key: Key) -> PodClass:
        """The class of a pod that is placed."""
        return self._own(self._where[key]).pods[key]

    def usage(self) -> dict[str, Usage]:
        """Every machine, and every other name that pods are placed on, as plain data."""
        return {name: self._usage_of(row) for name, row in self._by_name.items()}

    def _usage_of(self, row: int) -> Usage:
        record = self._record(row)
        ports: Counter[HostPort] = Counter()
        for (protocol, number), users in self.ports.items():
            for ip, count in users.get(row, Counter()).items():
                ports[HostPort(protocol, ip, number)] += count
        requested = {name: int(self.requested[row, index]) for name, index in self.columns.items()}
        return Usage(
            record.machine,
            dict(record.allocatable),
            {name: amount for name, amount in requested.items() if amount},
            (float(self.load[row, 0]), float(self.load[row, 1])),
            ports,
            frozenset(record.pods),
            self.devices.taken(row),
        )

    # Rows and columns

    def _record(self, row: int) -> _Row:
        """What is on a row, to read; its pods' classes may be those of another snapshot."""
        record = self._rows[row]
        if record is None:
            raise KeyError(row)
        return record

    def _own(self, row: int) -> _Row:
        """What is on a row, to change or to read the classes of its pods."""
        record = self._record(row)
        if record.owner is not self._owner:
            record = self._rows[row] = record.copy(self._owner, self._moved)
        return record

    def _row_for(self, name: str) -> int:
        row = self._by_name.get(name)
        if row is None:
            if not self._free:
                self._grow()
            row = self._by_name[name] = self._free.pop()
            self._rows[row] = _Row(name, self._owner)
        return row

    def _release(self, row: int) -> None:
        """Give the row back if neither machine nor pods are there."""
        record = self._record(row)
        if record.machine is None and not record.pods:
            del self._by_name[record.name]
            self._rows[row] = None
            self._free.append(row)

    def _grow(self) -> None:
        before = len(self._rows)
        more = before
        self._rows += [None] * more
        self._free = list(range(before + more - 1, before - 1, -1))
        self.allocatable = np.vstack([self.allocatable, np.zeros((more, len(self.columns)), dtype=np.int64)])
        self.requested = np.vstack([self.requested, np.zeros((more, len(self.columns)), dtype=np.int64)])
        for priority, amounts in self.by_priority.items():
            self.by_priority[priority] = np.vstack([amounts, np.zeros((more, len(self.columns)), dtype=np.int64)])
        self.load = np.vstack([self.load, np.zeros((more, 2))])
        self.scale = np.vstack([self.scale, np.ones((more, 2))])
        self.alive = np.concatenate([self.alive, np.zeros(more, dtype=np.bool_)])
        self.unschedulable = np.concatenate([self.unschedulable, np.zeros(more, dtype=np.bool_)])
        self.taints = np.concatenate([self.taints, np.zeros(more, dtype=np.int32)])
        self.labels.resize(before + more)
        self.devices.resize(before + more)
        self.shape += 1

    def _column(self, resource: str) -> int:
        index = self.columns.get(resource)
        if index is None:
            index = self.columns[resource] = len(self.columns)
            new = np.zeros((len(self._rows), 1), dtype=np.int64)
            self.allocatable = np.hstack([self.allocatable, new])
            self.requested = np.hstack([self.requested, new])
            for priority, amounts in self.by_priority.items():
                self.by_priority[priority] = np.hstack([amounts, new])
        return index


def _replaced(known: Mapping[bytes, PodClass], classes: Mapping[PodClass, PodClass]) -> dict[bytes, PodClass]:
    return {mark: classes.get(found, found) for mark, found in known.items()}

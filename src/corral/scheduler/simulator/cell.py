"""A cell that is only data: the live scheduler's snapshot and `assign`, and what would follow from its decisions. Pure.

What is done here to pods that are made to go is what the cell does to them: their controllers make them anew, and they
wait like any other, behind those that were there before. A pod that belongs to its machine ends with it.
"""

import difflib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from corral.base.errors import CorralError
from corral.kinds.podspec import is_terminal, priority
from corral.kinds.selectors import LabelSelector
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Pending, Preempt, assign
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import Budget
from corral.scheduler.profile import Profile
from corral.scheduler.simulator.scenario import Scenario, belongs_to_machine, workload
from corral.scheduler.snapshot import Snapshot

_BATCH = 1000
Progress: TypeAlias = Callable[[int, int], None]
"""Told now and then how many of how many steps are done."""


def silent(done: int, total: int) -> None:
    """Nobody wants to know."""


@dataclass
class Outcome:
    """What became of the pods that wanted a machine, and of those that had to make room."""

    placed: dict[Key, str] = field(default_factory=dict)
    """Pod -> machine."""
    refused: dict[Key, str] = field(default_factory=dict)
    """Pod -> why it is nowhere, in the words of the live scheduler."""
    evicted: dict[Key, str] = field(default_factory=dict)
    """Pods that made room for more important ones -> the machine they were on; most wait or are placed again."""


class SimulatedCell:
    """A scenario under one profile.

    Args:
        keep: pods that are placed stay where they are; otherwise they too wait to be placed.

    Raises:
        CorralError: a machine's amounts cannot be read, or two machines or pods have the same name.
    """

    def __init__(self, scenario: Scenario, profile: Profile, *, keep: bool = True) -> None:
        self.profile = profile
        self.snapshot = Snapshot()
        self.cache = CandidateCache(self.snapshot, profile)
        self.budgets = [_budget(one) for one in scenario.budgets]
        self.waiting: list[Pending] = []
        self.unreadable: dict[Key, str] = {}
        """Pods that the scheduler does not even look at, and why."""
        self.workloads: dict[Key, str] = {}
        self.rooted: set[Key] = set()
        """Pods that belong to their machine."""
        self.load: Counter[PodClass] = Counter()
        self._arrivals = 0
        for namespace in scenario.namespaces:
            metadata = namespace["metadata"]
            self.snapshot.put_namespace(metadata["name"], metadata.get("labels") or {})
        self._put_machines(scenario.machines)
        for pod in scenario.pods:
            self._put_pod(pod, keep)

    def _put_machines(self, machines: Iterable[Obj]) -> None:
        for node in machines:
            name = node["metadata"]["name"]
            if self.snapshot.row(name) is not None:
                raise CorralError(f"cannot simulate two machines named {name!r}", "give each machine a name of its own")
            try:
                self.snapshot.put_node(node)
            except ValueError as error:
                raise CorralError(f"cannot use the machine {name!r}: {error}", "correct it in the input") from error

    def _put_pod(self, pod: Obj, keep: bool) -> None:
        key, spec, metadata = key_of(pod), pod.get("spec") or {}, pod["metadata"]
        node = spec.get("nodeName") or ""
        if is_terminal(pod) or (metadata.get("deletionTimestamp") and not (node and keep)):
            return
        if key in self.workloads:
            raise CorralError(f"cannot simulate two pods named {str(key)!r}", "give each pod a name of its own")
        self.workloads[key] = workload(pod)
        if belongs_to_machine(pod):
            self.rooted.add(key)
        try:
            pod_class = self.snapshot.classify(pod, placed=bool(node))
        except (ValueError, StatusError) as error:
            self.unreadable[key] = f"cannot read what the pod asks for: {error}"
            return
        self.load[pod_class] += 1
        if node and (keep or key in self.rooted):
            self.snapshot.place(key, pod_class, node)
            return
        gates = [gate.get("name", "") for gate in spec.get("schedulingGates") or ()]
        if gates:
            self.unreadable[key] = f"the pod waits for its scheduling gates to be removed: {', '.join(gates)}"
            return
        self.waiting.append(self._pending(key, pod_class, priority(pod)))

    def _pending(self, key: Key, pod_class: PodClass, importance: int) -> Pending:
        self._arrivals += 1
        return Pending(key, pod_class, importance, self._arrivals)

    def evict(self, key: Key) -> Pending:
        """Take a pod off its machine; what its controller makes instead of it waits."""
        pod_class = self.snapshot.class_of(key)
        self.snapshot.remove(key)
        return self._pending(key, pod_class, pod_class.peers.priority)

    def kill(self, machine: str) -> tuple[list[Key], list[Key]]:
        """A machine dies: the pods that wait for another one now, and those that ended with it.

        Raises:
            CorralError: there is no such machine.
        """
        row = self.snapshot.row(machine)
        if row is None:
            close = difflib.get_close_matches(machine, self.machine_names(), 1)
            remedy = f"did you mean {close[0]!r}?" if close else "name machines of this cell"
            raise CorralError(f"cannot let the machine {machine!r} die: there is none of that name", remedy)
        there = [key for key, _ in self.snapshot.pods(row) if key not in self.snapshot.nominations]
        ended = [key for key in there if key in self.rooted]
        for key in ended:
            self.snapshot.remove(key)
        displaced = [key for key in there if key not in self.rooted]
        self.waiting += [self.evict(key) for key in displaced]
        self.snapshot.remove_node(machine)
        return displaced, ended

    def machine_names(self) -> list[str]:
        """The names of all machines."""
        return [self.snapshot.machine(row).name for row in self.snapshot.rows()]

    def placed(self) -> Iterator[tuple[Key, PodClass]]:
        """The pods that are on machines."""
        for row in self.snapshot.rows():
            yield from (item for item in self.snapshot.pods(row) if item[0] not in self.snapshot.nominations)

    def settle(self, now: datetime, rng: random.Random, progress: Progress = silent) -> Outcome:
        """Decide for all that waits until nothing moves any more: as in the live cell, pods that are pushed out wait
        again, and refused ones are looked at again when room was made or a pod that they seek was placed. Those that
        are refused in the end go on waiting."""
        outcome = Outcome(refused=dict(self.unreadable))
        refused: dict[Key, Pending] = {}
        left, done = sorted(self.waiting, key=_rank), 0
        while left:
            pushed_out: list[Pending] = []
            bound = False
            total = done + len(left)
            for start in range(0, len(left), _BATCH):
                batch = {pod.key: pod for pod in left[start : start + _BATCH]}
                for decision in assign(self.cache, list(batch.values()), now, rng, self.budgets):
                    if isinstance(decision, Bind):
                        bound = True
                        refused.pop(decision.pod, None)
                        outcome.refused.pop(decision.pod, None)
                        outcome.placed[decision.pod] = decision.node
                        continue
                    refused[decision.pod] = batch[decision.pod]
                    outcome.refused[decision.pod] = decision.message
                    if isinstance(decision, Preempt):
                        pushed_out += self._push_out(decision.victims, outcome)
                done += len(batch)
                progress(done, total + len(pushed_out))
            again = self._worth_another_look(refused, freed=bool(pushed_out)) if bound or pushed_out else []
            left = sorted([*pushed_out, *again], key=_rank)
        self.waiting = list(refused.values())
        return outcome

    def _push_out(self, victims: Iterable[Key], outcome: Outcome) -> Iterator[Pending]:
        # Two pods of one batch may have the same victims.
        for key in filter(self.snapshot.node_of, victims):
            peers = self.snapshot.class_of(key).peers
            for number, budget in enumerate(self.budgets):
                if budget.namespace == key.namespace and budget.selector.matches(peers.labels):
                    self.budgets[number] = replace(budget, allowed=budget.allowed - 1)
            if not outcome.placed.pop(key, ""):
                outcome.evicted.setdefault(key, self.snapshot.node_of(key))
            yield self.evict(key)

    def _worth_another_look(self, refused: Mapping[Key, Pending], *, freed: bool) -> list[Pending]:
        """Those for whom room is kept, and those whose class fits somewhere now."""
        fits: dict[PodClass, bool] = {}
        for pod in refused.values():
            if pod.pod_class not in fits:
                concerned = freed or pod.pod_class.peers.gains_by_others
                fits[pod.pod_class] = concerned and self.cache.fits_somewhere(pod.pod_class)
        return [pod for pod in refused.values() if pod.key in self.snapshot.nominations or fits[pod.pod_class]]


def _rank(pod: Pending) -> tuple[int, int, Key]:
    return -pod.priority, pod.order, pod.key


def _budget(budget: Obj) -> Budget:
    allowed = (budget.get("status") or {}).get("disruptionsAllowed") or 0
    selector = LabelSelector.from_object((budget.get("spec") or {}).get("selector"))
    return Budget(budget["metadata"].get("namespace", ""), selector, int(allowed))

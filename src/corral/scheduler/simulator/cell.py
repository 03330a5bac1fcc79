"""A cell that is only data: the live scheduler's snapshot and `assign`, and what would follow from its decisions. Pure.

What is done here to pods that are made to go is what the cell does to them: their controllers make them anew, and they
wait like any other, behind those that were there before. A pod that belongs to its machine ends with it, and one that
has no controller is gone.
"""

import difflib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from corral.base.errors import CorralError
from corral.kinds.owners import controller_of
from corral.kinds.podgroups import GangKey, counts, gang_of
from corral.kinds.podspec import is_terminal, priority
from corral.kinds.status import StatusError
from corral.kinds.types import Key, Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.gangs import GangBook
from corral.scheduler.plan import Bind, Pending, Preempt, Refuse, Wait, assign
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import Budget, spend
from corral.scheduler.profile import Profile
from corral.scheduler.simulator.backlog import Backlog
from corral.scheduler.simulator.context import tell
from corral.scheduler.simulator.scenario import Scenario, belongs_to_machine, workload
from corral.scheduler.snapshot import Snapshot

_BATCH = 1000
_MOST_ROUNDS = 1000
"""A cascade takes a few; rules that contradict each other must not keep a simulation from ending."""
_SCHEDULER = "default-scheduler"
NOT_MADE_ANEW = "the pod has no controller that would make it anew"
_NO_OTHERS: Mapping[str, Profile] = {}
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
        others: by further scheduler names, the profiles of the pods that ask for these.
        keep: pods that are placed stay where they are; otherwise they too wait to be placed.

    Raises:
        CorralError: a machine's amounts cannot be read, or two machines or pods have the same name.
    """

    def __init__(
        self, scenario: Scenario, profile: Profile, others: Mapping[str, Profile] = _NO_OTHERS, *, keep: bool = True
    ) -> None:
        self.profile = profile
        self.snapshot = Snapshot()
        self.cache = CandidateCache(self.snapshot, profile, others)
        self._schedulers = {_SCHEDULER, *others}
        self.gangs = GangBook()
        told = [tell(obj, self.snapshot, self.gangs) for obj in scenario.context]
        self.budgets: Sequence[Budget] = [budget for budget in told if budget is not None]
        self.unreadable: dict[Key, str] = {}
        """Pods that the scheduler does not even look at, and why."""
        self.workloads: dict[Key, str] = {}
        self.rooted: set[Key] = set()
        """Pods that belong to their machine."""
        self.orphans: set[Key] = set()
        """Pods that nobody makes anew."""
        self.load: Counter[PodClass] = Counter()
        self._gang_of: dict[Key, GangKey] = {}
        self.waiting = Backlog(self._gang_of, profile.order)
        self._without_devices: dict[Key, PodClass] = {}
        """For pods with GPUs, the class that they had before they got them, and have again when they lose them."""
        self._arrivals = 0
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
        key, spec = key_of(pod), pod.get("spec") or {}
        node = spec.get("nodeName") or ""
        self._put_facts(key, pod)
        if is_terminal(pod):
            # A member that has succeeded is not missed.
            self._count_member(key, placed=counts(pod))
            return
        if pod["metadata"].get("deletionTimestamp") and not (node and keep):
            return
        try:
            pod_class = self.snapshot.classify(pod, placed=bool(node))
        except (ValueError, StatusError) as error:
            self.unreadable[key] = f"cannot read what the pod asks for: {error}"
            return
        if pod_class.gpu is not None:
            self._without_devices[key] = self.snapshot.classify({**pod, "spec": {**spec, "nodeName": ""}})
        self.load[self._without_devices.get(key, pod_class)] += 1
        if node and (keep or key in self.rooted):
            self.snapshot.place(key, pod_class, node)
            self._count_member(key, placed=True)
            return
        held = self._held_back(spec)
        if held and not node:
            self.unreadable[key] = held
            return
        nominated = (pod.get("status") or {}).get("nominatedNodeName")
        if nominated and keep:
            self.snapshot.nominate(key, pod_class, nominated)
        wants = self._without_devices.get(key, pod_class)
        self._wait(key, wants, priority(pod))

    def _put_facts(self, key: Key, pod: Obj) -> None:
        if key in self.workloads:
            raise CorralError(f"cannot simulate two pods named {str(key)!r}", "give each pod a name of its own")
        self.workloads[key] = workload(pod)
        gang = gang_of(pod)
        if gang is not None:
            self._gang_of[key] = gang
        if belongs_to_machine(pod):
            self.rooted.add(key)
        elif controller_of(pod) is None:
            self.orphans.add(key)

    def _held_back(self, spec: Obj) -> str:
        """Why the live scheduler would not try a pod yet."""
        gates = [gate.get("name", "") for gate in spec.get("schedulingGates") or ()]
        if gates:
            return f"the pod waits for its scheduling gates to be removed: {', '.join(gates)}"
        scheduler = spec.get("schedulerName") or _SCHEDULER
        return "" if scheduler in self._schedulers else f"the pod asks for the scheduler {scheduler!r}"

    def _wait(self, key: Key, pod_class: PodClass, importance: int) -> None:
        self._arrivals += 1
        self.waiting.add(Pending(key, pod_class, importance, self._arrivals))

    def end(self, key: Key) -> None:
        """A pod has done its work; in a gang it still counts."""
        self.snapshot.remove(key)

    def evict(self, key: Key) -> None:
        """Take a pod off its machine; what its controller makes instead of it, if it has one, waits."""
        pod_class = self._without_devices.get(key) or self.snapshot.class_of(key)
        self.snapshot.remove(key)
        self._count_member(key, placed=False)
        if key not in self.orphans:
            self._wait(key, pod_class, pod_class.peers.priority)

    def _count_member(self, key: Key, *, placed: bool) -> None:
        gang = self._gang_of.get(key)
        if gang is not None:
            self.gangs.see(gang, key, counts=placed)

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
        for key in displaced:
            self.evict(key)
        self.snapshot.remove_node(machine)
        return displaced, ended

    def machine_names(self) -> list[str]:
        """The names of all machines."""
        return [self.snapshot.machine(row).name for row in self.snapshot.rows()]

    def placed(self) -> Iterator[tuple[Key, PodClass]]:
        """The pods that are on machines."""
        for row in self.snapshot.rows():
            yield from (item for item in self.snapshot.pods(row) if item[0] not in self.snapshot.nominations)

    def settle(self, now: datetime, rng: random.Random, progress: Progress = silent, *, freed: bool = False) -> Outcome:
        """Decide until nothing moves any more: as in the live cell, pods that are pushed out wait again, and refused
        ones are looked at again when room was made or a pod that they seek was placed. Those that are refused in the
        end go on waiting.

        Args:
            freed: room was made since the last time.
        """
        outcome = Outcome(refused=dict(self.unreadable))
        left, done = self.waiting.worth_a_look(self.cache, freed=freed), 0
        for _ in range(_MOST_ROUNDS):
            if not left:
                break
            total, bound, evicted = done + len(left), len(outcome.placed), False
            for batch in self._batches(left):
                for decision in assign(self.cache, batch, now, rng, self.budgets):
                    if isinstance(decision, Bind):
                        self._bind(decision, outcome)
                        continue
                    self.waiting.refuse(decision.pod)
                    outcome.refused[decision.pod] = _words(decision)
                    if isinstance(decision, Preempt):
                        evicted |= self._push_out(decision.victims, outcome)
                done += len(batch)
                progress(done, total)
            moved = evicted or len(outcome.placed) > bound
            left = self.waiting.worth_a_look(self.cache, freed=evicted) if moved else []
        return outcome

    def _bind(self, decision: Bind, outcome: Outcome) -> None:
        self._count_member(decision.pod, placed=True)
        self.waiting.discard(decision.pod)
        outcome.refused.pop(decision.pod, None)
        outcome.placed[decision.pod] = decision.node

    def _batches(self, pods: Sequence[Pending]) -> Iterator[list[Pending]]:
        """`pods` in order, some at a time; those of one gang come together, where the first of them is."""
        gangs: dict[GangKey, list[Pending]] = {}
        for pod in pods:
            if pod.key in self._gang_of:
                gangs.setdefault(self._gang_of[pod.key], []).append(pod)
        batch: list[Pending] = []
        for pod in pods:
            key = self._gang_of.get(pod.key)
            if key is None:
                batch.append(pod)
            elif key in gangs:
                gang = self.gangs.gang(key)
                batch += [replace(member, gang=gang) for member in gangs.pop(key)]
            if len(batch) >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _push_out(self, victims: Iterable[Key], outcome: Outcome) -> bool:
        """Evict those that are still there: two pods of one batch may have the same victims."""
        there = [key for key in victims if self.snapshot.node_of(key)]
        for key in there:
            self.budgets = spend(self.budgets, [(key, self.snapshot.class_of(key))])
            if not outcome.placed.pop(key, ""):
                outcome.evicted.setdefault(key, self.snapshot.node_of(key))
            self.evict(key)
            if key in self.orphans:
                outcome.refused[key] = NOT_MADE_ANEW
        return bool(there)


def _words(decision: Refuse | Preempt | Wait) -> str:
    return decision.summary if isinstance(decision, Refuse) else decision.message

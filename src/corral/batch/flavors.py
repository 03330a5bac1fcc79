"""Which flavors a workload would get in a queue, and how well it fits.

Every pod set takes each group of resources from one flavor. Flavors are tried in the queue's order; those whose taints
the pods do not tolerate or whose labels their node selector and affinity exclude are passed over (only label keys that
a flavor of the group has are looked at). Source: kubernetes-sigs/kueue, pkg/scheduler/flavorassigner.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corral.batch.model import Assigned, Flavor, FlavorResource, Group, Mode, PodSet, Queue, Shortage, Usage, Waiting
from corral.batch.quota import Tree
from corral.kinds.taints import untolerated

PODS = "pods"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a workload would get. `scarce` are the flavors' resources that only preemption can free."""

    mode: Mode
    pod_sets: tuple[Assigned, ...] = ()
    usage: Usage = field(default_factory=dict)
    borrows: bool = False
    scarce: frozenset[FlavorResource] = frozenset()
    message: str = ""
    shortages: tuple[Shortage, ...] = ()


@dataclass(slots=True)
class _Choice:
    """One flavor for one group of one pod set."""

    flavor: str
    mode: Mode
    borrows: bool
    scarce: set[FlavorResource]


def assign(workload: Waiting, queue: Queue, flavors: Mapping[str, Flavor], tree: Tree) -> Assignment:
    """The best that `queue` has for `workload` as quota is used now."""
    return _Assigner(queue, flavors, tree).assign(workload)


class _Assigner:
    def __init__(self, queue: Queue, flavors: Mapping[str, Flavor], tree: Tree) -> None:
        self._queue = queue
        self._flavors = flavors
        self._tree = tree
        self._group_of = {name: group for group in queue.groups for name in group.resources}
        self._usage: dict[FlavorResource, int] = {}
        self._reasons: list[str] = []
        self._shortages: list[Shortage] = []

    def assign(self, workload: Waiting) -> Assignment:
        done: list[Assigned] = []
        mode, borrows = Mode.FIT, False
        scarce: set[FlavorResource] = set()
        said: list[str] = []
        for pod_set in workload.pod_sets:
            self._reasons = []
            requests = self._requests(pod_set)
            choices = self._choose(pod_set, requests)
            if self._reasons:
                said.append(f"couldn't assign flavors to pod set {pod_set.name}: {', '.join(self._reasons)}")
            if choices is None:
                return Assignment(Mode.NO_FIT, message="; ".join(said), shortages=tuple(self._shortages))
            for choice in choices.values():
                mode, borrows = min(mode, choice.mode), borrows or choice.borrows
                scarce |= choice.scarce
            for name, amount in requests.items():
                place = FlavorResource(choices[name].flavor, name)
                self._usage[place] = self._usage.get(place, 0) + amount
            names = {name: choice.flavor for name, choice in choices.items()}
            done.append(Assigned(pod_set.name, pod_set.count, names, requests))
        return Assignment(
            mode, tuple(done), self._usage, borrows, frozenset(scarce), "; ".join(said), tuple(self._shortages)
        )

    def _requests(self, pod_set: PodSet) -> dict[str, int]:
        total = {name: amount * pod_set.count for name, amount in pod_set.requests.items() if amount}
        if PODS in self._group_of:
            total[PODS] = pod_set.count
        return total

    def _choose(self, pod_set: PodSet, requests: Mapping[str, int]) -> dict[str, _Choice] | None:
        """A flavor for each resource; None if one has none."""
        chosen: dict[str, _Choice] = {}
        for name in requests:
            if name in chosen:
                continue
            group = self._group_of.get(name)
            if group is None:
                self._reasons.append(f"resource {name} unavailable in ClusterQueue")
                return None
            wanted = {other: requests[other] for other in group.resources if other in requests}
            best = self._best(pod_set, group, wanted)
            if best is None:
                return None
            chosen.update(dict.fromkeys(wanted, best))
        return chosen

    def _best(self, pod_set: PodSet, group: Group, wanted: Mapping[str, int]) -> _Choice | None:
        best: _Choice | None = None
        for name in self._possible(pod_set, group):
            choice = self._judge(pod_set, name, wanted)
            if choice.mode == Mode.NO_FIT:
                continue
            if best is None or self._rank(choice) > self._rank(best):
                best = choice
            if self._ends(choice):
                break
        return best

    def _possible(self, pod_set: PodSet, group: Group) -> Iterator[str]:
        keys = {key for name in group.flavors if name in self._flavors for key in self._flavors[name].labels}
        for name in group.flavors:
            flavor = self._flavors.get(name)
            if flavor is None:
                self._reasons.append(f"flavor {name} not found")
            elif (taint := _untolerated(pod_set, flavor)) is not None:
                self._reasons.append(f"untolerated taint {taint} in flavor {name}")
            elif not _matches(pod_set, flavor, keys):
                self._reasons.append(f"flavor {name} doesn't match node affinity")
            else:
                yield name

    def _judge(self, pod_set: PodSet, flavor: str, wanted: Mapping[str, int]) -> _Choice:
        choice = _Choice(flavor, Mode.FIT, False, set())
        for name, amount in wanted.items():
            mode, borrows = self._fit(pod_set, FlavorResource(flavor, name), amount)
            if mode == Mode.PREEMPT:
                choice.scarce.add(FlavorResource(flavor, name))
            choice.mode, choice.borrows = min(choice.mode, mode), choice.borrows or borrows
            if mode == Mode.NO_FIT:
                break
        return choice

    def _fit(self, pod_set: PodSet, place: FlavorResource, amount: int) -> tuple[Mode, bool]:
        queue, tree = self._queue, self._tree
        needed = amount + self._usage.get(place, 0)
        most = tree.most(queue.name, place)
        if needed > most:
            self._lacks(Shortage(pod_set.name, place, needed, most, limit=True))
            return Mode.NO_FIT, False
        borrows = tree.borrowed(queue.name, place, needed) > 0
        free = tree.free(queue.name, place)
        if needed <= free:
            return Mode.FIT, borrows
        self._lacks(Shortage(pod_set.name, place, needed, max(0, free), limit=False))
        return (Mode.PREEMPT if self._may_preempt() else Mode.NO_FIT), needed > tree.nominal(queue.name, place)

    def _may_preempt(self) -> bool:
        preemption = self._queue.preemption
        return preemption.within != "Never" or (bool(self._queue.cohort) and preemption.reclaim != "Never")

    def _lacks(self, shortage: Shortage) -> None:
        self._reasons.append(str(shortage))
        self._shortages.append(shortage)

    def _rank(self, choice: _Choice) -> tuple[int, int]:
        own = 0 if choice.borrows else 1
        return (own, choice.mode) if self._queue.preempt_first else (choice.mode, own)

    def _ends(self, choice: _Choice) -> bool:
        """Whether a flavor is good enough not to look at the next ones."""
        if choice.mode == Mode.PREEMPT:
            return self._queue.preempt_stops and (self._queue.borrow_stops or not choice.borrows)
        return self._queue.borrow_stops or not choice.borrows


def _untolerated(pod_set: PodSet, flavor: Flavor) -> str | None:
    found = untolerated((*pod_set.tolerations, *flavor.tolerations), flavor.taints)
    return None if found is None else f"{{{found.key} {found.value} {found.effect}}}"


def _matches(pod_set: PodSet, flavor: Flavor, keys: set[str]) -> bool:
    labels = flavor.labels
    if any(labels.get(key) != value for key, value in pod_set.node_selector.items() if key in keys):
        return False
    if pod_set.affinity is None:
        return True
    return any(
        all(requirement.matches(labels) for requirement in on_labels if requirement.key in keys)
        for on_labels, _ in pod_set.affinity.terms
    )

"""How small a cell could hold a workload: cell compaction, the measure by which Borg's policies were chosen.

Machines are taken away in random order, and the whole workload is packed anew from nothing into those that are left,
until it no longer fits. That keeps the cell's mix of machines and does not depend on where pods happen to be. It is
done several times; as the result counts the 90th percentile, which is what somebody would go by who wants to be
reasonably sure. Sources: Verma et al., "Large-scale cluster management at Google with Borg", EuroSys'15, section 5.1;
and "Evaluating job packing in warehouse-scale computing", CLUSTER'14, which finds the number by bisection, as is done
here: that a workload fits into fewer machines although it does not fit into more is rare, and costs a machine or two.

All machines and pods are read once. Between attempts only the pods leave the snapshot and the machines that make the
difference come or go.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from corral.kinds.types import Obj, key_of
from corral.scheduler.candidates import CandidateCache
from corral.scheduler.plan import Bind, Pending, assign
from corral.scheduler.profile import Profile
from corral.scheduler.snapshot import Snapshot

_HOSTNAME = "kubernetes.io/hostname"
_MOST_CELLS = 32
_AT_ONCE = 128
_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Compaction:
    """How many machines were needed in each trial."""

    needed: tuple[int, ...]
    bounds: tuple[int, ...]
    """The volume bound of each trial: how many of its machines have, in sum, as much of everything as all pods ask for.
    Pods that may stay pending are counted too."""

    @property
    def result(self) -> int:
        """The 90th percentile of `needed`."""
        return _percentile_90(self.needed)

    @property
    def bound(self) -> int:
        """The 90th percentile of `bounds`: with this few machines it would work if pods were liquid."""
        return _percentile_90(self.bounds)


def compact(
    machines: Sequence[Obj],
    pods: Sequence[Obj],
    *,
    profile: Profile,
    rng: random.Random,
    trials: int = 11,
    pending_allowed: float = 0.002,
    progress: Callable[[int, int], None] = lambda done, trials: None,
) -> Compaction:
    """How few of `machines`, chosen at random, hold `pods`; if all do not suffice, of several such cells.

    Args:
        machines: Nodes.
        pods: Pods that are to run, in the order of arrival; those that are more important go first. Where they run now
            does not matter; those that belong to a machine (of a DaemonSet) are left out.
        rng: chooses which machines go, and between equally good ones.
        pending_allowed: what part of the pods may find no machine, for those that only a handful of machines take.
        progress: told after each trial how many are done, and how many there will be.

    Raises:
        ValueError: a quantity cannot be read, or no number of such machines holds the pods.
        StatusError: a selector of a pod makes no sense.
    """
    workload = _Workload(machines, pods, profile, rng, int(pending_allowed * len(pods)))
    workload.grow()
    needed: list[int] = []
    bounds: list[int] = []
    for trial in range(trials):
        fewest, bound = workload.trial(needed[-1] if needed else 0)
        needed.append(fewest)
        bounds.append(bound)
        progress(trial + 1, trials)
    return Compaction(tuple(needed), tuple(bounds))


class _Workload:
    """The pods, read, and a snapshot that holds the machines that were tried last."""

    def __init__(
        self, machines: Sequence[Obj], pods: Sequence[Obj], profile: Profile, rng: random.Random, allowed: int
    ) -> None:
        self._cell = machines
        self._machines = list(machines)
        self._rng = rng
        self._allowed = allowed
        self._snapshot = Snapshot()
        self._cache = CandidateCache(self._snapshot, profile)
        self._there: dict[str, Obj] = {}
        self._refusal = ""
        classes = ((pod, self._snapshot.classify(pod, placed=True)) for pod in pods if not _tied(pod))
        pending = [Pending(key_of(pod), of, of.peers.priority, order) for order, (pod, of) in enumerate(classes)]
        self._pending = sorted(pending, key=lambda pod: (-pod.priority, pod.order))
        for node in machines:
            self._snapshot.put_node(node)
            self._there[node["metadata"]["name"]] = node
        self._requested = np.zeros(len(self._snapshot.columns), dtype=np.int64)
        for pod in pending:
            self._requested[pod.pod_class.columns] += pod.pod_class.amounts
        self._amounts = {name: self._row(name) for name in self._there}

    def _row(self, name: str) -> NDArray[np.int64]:
        row = self._snapshot.row(name)
        if row is None:
            raise KeyError(name)
        amounts: NDArray[np.int64] = self._snapshot.allocatable[row].copy()
        return amounts

    def trial(self, guess: int) -> tuple[int, int]:
        """The fewest machines of a random order that hold the pods, and the volume bound of that order.

        Args:
            guess: what that is likely to be, or 0.
        """
        order = self._rng.sample(self._machines, len(self._machines))
        bound = self._bound(order)
        return _fewest(lambda count: self._fits(order[:count]), guess or bound, len(order)), bound

    def grow(self) -> None:
        """Clone the cell until it holds the pods."""
        while not self._fits(self._machines):
            self._clone()

    def _clone(self) -> None:
        """Twice as many machines."""
        times = len(self._machines) // max(len(self._cell), 1)
        if not self._cell or times >= _MOST_CELLS:
            raise ValueError(
                f"cannot find a size at which the workload fits: {times} cells like this one leave more pods pending "
                f"than the {self._allowed} allowed, for example {self._refusal}; leave such pods out, allow more to "
                "stay pending, or add machines that take them"
            )
        for number in range(times, 2 * times):
            for node in self._cell:
                copy = _copy(node, number)
                self._machines.append(copy)
                self._amounts[copy["metadata"]["name"]] = self._amounts[node["metadata"]["name"]]

    def _bound(self, order: Sequence[Obj]) -> int:
        sums = np.cumsum([self._amounts[node["metadata"]["name"]] for node in order], axis=0)
        enough = [np.searchsorted(sums[:, column], amount) for column, amount in enumerate(self._requested) if amount]
        return min(int(max(enough, default=-1)) + 1, len(order))

    def _fits(self, machines: Sequence[Obj]) -> bool:
        self._have(machines)
        pending = 0
        placed: list[Pending] = []
        for at in range(0, len(self._pending), _AT_ONCE):
            some = self._pending[at : at + _AT_ONCE]
            decisions = assign(self._cache, some, _MOMENT, self._rng)
            placed += some
            for decision in decisions:
                if not isinstance(decision, Bind):
                    pending += 1
                    self._refusal = f"{decision.pod}: {decision.message}"
            if pending > self._allowed:
                break
        for pod in placed:
            self._snapshot.remove(pod.key)
        return pending <= self._allowed

    def _have(self, machines: Sequence[Obj]) -> None:
        """Exactly these machines are in the snapshot."""
        wanted = {node["metadata"]["name"]: node for node in machines}
        for name in self._there:
            if name not in wanted:
                self._snapshot.remove_node(name)
        for name, node in wanted.items():
            if name not in self._there:
                self._snapshot.put_node(node)
        self._there = wanted


def _tied(pod: Obj) -> bool:
    """Whether the pod belongs to a machine, such as a DaemonSet's: it comes and goes with it."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("kind") in ("DaemonSet", "Node") for owner in owners)


def _copy(node: Obj, number: int) -> Obj:
    """A machine like `node` of another name."""
    metadata = node["metadata"]
    name = f"{metadata['name']}-copy-{number}"
    labels = dict(metadata.get("labels") or {})
    if _HOSTNAME in labels:
        labels[_HOSTNAME] = name
    return {**node, "metadata": {**metadata, "name": name, "labels": labels}}


def _fewest(fits: Callable[[int], bool], guess: int, most: int) -> int:
    """The fewest, at most `most`, for which `fits` holds, as it does for `most` and does not for 0.

    Steps that double lead from `guess` to a range that is then halved.
    """
    step = max(1, guess // 100)
    low, high = 0, most
    at = min(guess, most)
    while low < at < high:
        if fits(at):
            high, at = at, at - step
            if low:
                break
        else:
            low, at = at, at + step
            if high < most:
                break
        step *= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _percentile_90(numbers: Sequence[int]) -> int:
    """The smallest of `numbers` that at least nine tenths of them do not exceed."""
    return sorted(numbers)[-(-9 * len(numbers) // 10) - 1]

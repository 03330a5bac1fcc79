"""GPUs that a pod would leave without use: the placement that costs the cell's future pods least of them is best.

In the manner of FGD (ATC'23), the cost of a placement is by how much the machine's worth sinks beyond what the pod
itself gets; what is different is the measure of worth (`corral.scheduler.outlook`). A pod that asks for no GPU costs
as many as it strands by taking the cpu or memory that they need.

What pods are typical is learned from the GPU pods that there are and those that wait, anew whenever their number has
changed by a third; or it is given (`expect`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from corral.kinds.accelerators import WHOLE
from corral.scheduler.devices import Typical
from corral.scheduler.filters.node_affinity import NodeAffinity
from corral.scheduler.filters.taints import Taints
from corral.scheduler.outlook import Demand, Outlook, States, taken
from corral.scheduler.podclass import PodClass
from corral.scheduler.scores import BEST
from corral.scheduler.snapshot import Rows, Snapshot

_CHANGE = 4 / 3
_MOST_RULES = 64
_WHERE = (NodeAffinity(), Taints())


class Fragmentation:
    """100 if the pod costs no other pod any GPU; 0 if it costs one whole GPU, and less for more.

    For pods that ask for GPUs a fuller machine is better by up to one point for each of cpu and memory: what parts
    equals.
    """

    def score(
        self, snapshot: Snapshot, pod: PodClass, rows: Rows, share: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        if not snapshot.devices:
            return None
        lost = _lost(snapshot, pod, np.arange(len(snapshot.alive))[rows])
        if lost is None and pod.gpu is None:
            return None
        scores = np.full(len(share), BEST) if lost is None else (1 - lost / WHOLE) * BEST
        return scores if pod.gpu is None else scores + share.sum(axis=1)


def expect(snapshot: Snapshot, pods: Mapping[PodClass, float]) -> None:
    """Take these to be typical from now on: how often each comes, in any unit."""
    asking = {pod: weight for pod, weight in pods.items() if pod.gpu is not None}
    snapshot.devices.typical = Typical(asking, given=True)
    snapshot.shape += 1


def learn(snapshot: Snapshot, pending: Iterable[PodClass] = ()) -> None:
    """See whether the pods that are typical have changed: those that there are and those that wait."""
    devices = snapshot.devices
    if not devices or devices.typical.given:
        return
    waiting = [pod for pod in pending if pod.gpu is not None]
    count, learned = devices.held.total() + len(waiting), devices.typical.learned
    if not count or learned / _CHANGE < count < learned * _CHANGE:
        return
    examples = {pod.alone: pod for pod in waiting} | devices.examples
    counts = devices.held + Counter(pod.alone for pod in waiting)
    devices.typical = Typical({examples[alone]: number for alone, number in counts.items()}, learned=count)
    snapshot.shape += 1


def _lost(snapshot: Snapshot, pod: PodClass, rows: NDArray[np.intp]) -> NDArray[np.float64] | None:
    """What pods to come would get less of the GPUs of each row, in thousandths; None if nobody knows what comes."""
    outlook, groups = _outlook(snapshot)
    if outlook is None:
        return None
    whole, milli = (0, 0) if pod.gpu is None else (pod.gpu.count, pod.gpu.milli)
    free = snapshot.devices.free[rows]
    left = snapshot.allocatable[rows, :2] - snapshot.requested[rows, :2]
    after = left - [pod.requests.get("cpu", 0), pod.requests.get("memory", 0)]
    concerned = free.any(axis=1) & (after >= 0).all(axis=1)
    concerned &= (free.max(axis=1) >= milli) & (np.count_nonzero(free == WHOLE, axis=1) >= whole)
    at = np.flatnonzero(concerned)
    lost = np.zeros(len(rows))
    if not len(at):
        return lost
    free, left, after, group = free[at], left[at], after[at], groups[rows[at]]
    then = taken(free, np.full(len(at), whole, dtype=np.int16), np.full(len(at), milli, dtype=np.int16))
    cpu, memory = np.concatenate([left, after]).T
    worth = outlook.worth(States(cpu, memory, np.concatenate([free, then]), np.concatenate([group, group])))
    lost[at] = worth[: len(at)] - worth[len(at) :] - (whole * WHOLE + milli)
    return lost


def _outlook(snapshot: Snapshot) -> tuple[Outlook | None, NDArray[np.int16]]:
    """The outlook for the machines as they are now, and their groups."""
    typical = snapshot.devices.typical
    if typical.shape != snapshot.shape:
        typical.shape = snapshot.shape
        _survey(snapshot, typical)
    return typical.outlook, typical.groups


def _survey(snapshot: Snapshot, typical: Typical) -> None:
    rules: dict[object, int] = {}
    masks: list[NDArray[np.bool_]] = []
    mix: dict[Demand, float] = {}
    for pod, weight in typical.pods.items():
        if pod.gpu is None:
            continue
        rule = (pod.gpu.resource, pod.node_selector, pod.affinity, pod.tolerations)
        if rule not in rules and len(rules) < _MOST_RULES:
            rules[rule] = len(masks)
            masks.append(_open_to(snapshot, pod, pod.gpu.resource))
        if rule in rules:
            cpu, memory = pod.requests.get("cpu", 0), pod.requests.get("memory", 0)
            demand = Demand(cpu, memory, pod.gpu.count, pod.gpu.milli, rules[rule])
            mix[demand] = mix.get(demand, 0.0) + weight
    if not mix:
        typical.outlook = None
        return
    kinds, groups = np.unique(np.stack(masks, axis=1), axis=0, return_inverse=True)
    typical.groups = groups.astype(np.int16)
    outlook = Outlook(mix, kinds)
    # A machine that comes or goes leaves what is known of the others valid.
    if typical.outlook is None or not typical.outlook.same(outlook):
        typical.outlook = outlook


def _open_to(snapshot: Snapshot, pod: PodClass, resource: str) -> NDArray[np.bool_]:
    mask = snapshot.devices.are(slice(None), resource) if resource else snapshot.devices.kinds > 0
    for rule in _WHERE:
        passes = rule.passes(snapshot, pod)
        if passes is not None:
            mask &= passes
    return mask

"""Why it would not help a refused pod to make others go, in the words that kube-scheduler adds to a refusal. Pure.

It counts machines: those where nobody's going would change anything (their labels, their taints, too small even when
empty), those where nobody less important is, and those where the pod does not fit even without the less important.
Source: kubernetes/pkg/scheduler/framework/preemption and plugins/defaultpreemption, v1.36. What its plug-in for dynamic
resources says before ("no new claims to deallocate") is left out: Corral has no such claims.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from corral.scheduler.filters import all_of
from corral.scheduler.filters.pod_affinity import where_attracted
from corral.scheduler.filters.resources import reason_of
from corral.scheduler.filters.topology_spread import spread_sums
from corral.scheduler.podclass import PodClass
from corral.scheduler.preemption import may_preempt
from corral.scheduler.profile import RESOURCES, Profile
from corral.scheduler.snapshot import PODS, Snapshot

TERMINATING = "not eligible due to terminating pod on the nominated node."
_PATIENT = "not eligible due to preemptionPolicy=Never."
_HELPLESS = "Preemption is not helpful for scheduling"
_NOBODY = "No preemption victims found for incoming pod"


def futility(snapshot: Snapshot, pod: PodClass, profile: Profile) -> str:
    """What follows `preemption: ` for a pod that no machine takes and for which no victims were found."""
    if not pod.peers.preempts:
        return _PATIENT
    counts: Counter[str] = Counter()
    less = _less_important(snapshot, pod)
    inhabited = less[:, snapshot.columns[PODS]] > 0
    left = snapshot.alive.copy()
    for rule in profile.filters:
        mask = rule.passes(snapshot, pod)
        if mask is None:
            continue
        refused, left = left & ~mask, left & mask
        if rule in profile.shape_filters or not refused.any():
            counts[_HELPLESS] += int(refused.sum())
            continue
        movable = refused
        if rule is RESOURCES:
            movable = refused & np.logical_and.reduce(snapshot.allocatable[:, pod.columns] >= pod.amounts, axis=1)
        elif rule in profile.peer_filters:
            movable = refused & _near_enough(snapshot, pod)
        counts[_HELPLESS] += int((refused & ~movable).sum())
        counts[_NOBODY] += int((movable & ~inhabited).sum())
        beyond = np.flatnonzero(movable & inhabited)
        if rule is not RESOURCES:
            counts.update(rule.tally(snapshot, pod, beyond) if len(beyond) else {})
            continue
        lacking = snapshot.requested[beyond] - less[beyond] + _asked(snapshot, pod) > snapshot.allocatable[beyond]
        for name in pod.requests:
            counts[reason_of(name)] += int(lacking[:, snapshot.columns[name]].sum())
        # These fit without the less important as far as room goes: another rule stands against it.
        counts[_HELPLESS] += int((~lacking.any(axis=1)).sum())
    texts = sorted(f"{count} {reason}" for reason, count in counts.items() if count)
    return f"0/{len(snapshot)} nodes are available: {', '.join(texts)}."


def _less_important(snapshot: Snapshot, pod: PodClass) -> NDArray[np.int64]:
    """What pods take together that this one may push out."""
    levels = (level for level in snapshot.by_priority if may_preempt(pod.peers.priority, level))
    return sum((snapshot.by_priority[level] for level in levels), np.zeros_like(snapshot.requested))


def _asked(snapshot: Snapshot, pod: PodClass) -> NDArray[np.int64]:
    asked = np.zeros(len(snapshot.columns), dtype=np.int64)
    asked[pod.columns] = pod.amounts
    return asked


def _near_enough(snapshot: Snapshot, pod: PodClass) -> NDArray[np.bool_]:
    """The rows that are in all the domains that the pod's rules are about, near the pods that it seeks."""
    attracted = all_of(where_attracted(snapshot, pod))
    mask = snapshot.alive.copy() if attracted is None else attracted
    for constraint in pod.peers.spread:
        spread_sums(snapshot, constraint.tie)
        mask &= constraint.tie.chosen.cells > 0
    return mask

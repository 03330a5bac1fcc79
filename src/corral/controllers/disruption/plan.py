"""What the status of a PodDisruptionBudget should be. Pure.

The rules are those of Kubernetes' disruption controller. How many pods there should be is asked of what manages them
(a percentage, or `maxUnavailable`, means a share of that), and pods that nothing manages then do not count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from corral.base.clock import parse_rfc3339
from corral.controllers.pods.pods import is_deleting
from corral.controllers.pods.shares import resolve
from corral.kinds import conditions
from corral.kinds.podspec import is_ready
from corral.kinds.types import Obj

DELETION_SECONDS: Final = 120.0
"""An eviction that was allowed but did not happen within this time no longer counts (DeletionTimeout)."""

Expected = Callable[[Obj], "tuple[str, int] | None"]
"""The uid of what manages a pod and how many pods it wants; None if nothing that has a scale does."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status to write, what to look at again when, and what a person should know."""

    status: Obj
    look_again: float | None = None
    """Seconds until a disruption that was allowed counts as not having happened."""
    unmanaged: tuple[str, ...] = ()
    """Names of pods that do not count because nothing manages them."""
    problem: str = ""
    """Why nothing may be disrupted at all."""


def judge(budget: Obj, pods: Sequence[Obj], expected: Expected, now: datetime) -> Verdict:
    """The budget's status given the pods that it chooses."""
    spec = budget.get("spec") or {}
    sizes: dict[str, int] = {}
    unmanaged: list[str] = []
    for pod in pods:
        found = expected(pod)
        if found is None:
            unmanaged.append(pod["metadata"]["name"])
        else:
            sizes[found[0]] = found[1]
    counted = _wants_scale(spec)
    try:
        total = sum(sizes.values()) if counted else len(pods)
        desired = _desired(spec, total)
    except ValueError as error:
        return _nothing(budget, now, f"cannot read how many pods the budget wants: {error}")
    disrupted = _disrupted(budget, pods, now)
    healthy = sum(is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in disrupted for pod in pods)
    allowed = max(0, healthy - desired) if total > 0 else 0
    counts = {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": total,
        "disruptionsAllowed": allowed,
    }
    waits = [(at + timedelta(seconds=DELETION_SECONDS) - now).total_seconds() for at in disrupted.values()]
    status = _status(budget, counts, allowed, now)
    if disrupted:
        status["disruptedPods"] = {name: budget["status"]["disruptedPods"][name] for name in disrupted}
    return Verdict(status, min(waits, default=None), tuple(unmanaged) if counted else ())


def _wants_scale(spec: Obj) -> bool:
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def _desired(spec: Obj, total: int) -> int:
    most = spec.get("maxUnavailable")
    if most is not None:
        return max(0, total - resolve(most, total, up=True))
    return resolve(spec.get("minAvailable", 1), total, up=True)


def _disrupted(budget: Obj, pods: Sequence[Obj], now: datetime) -> Mapping[str, datetime]:
    """Pods whose eviction was allowed and is yet to be seen, and when."""
    told = (budget.get("status") or {}).get("disruptedPods") or {}
    there = {pod["metadata"]["name"] for pod in pods if not is_deleting(pod)}
    times = {name: parse_rfc3339(at) for name, at in told.items() if name in there}
    return {name: at for name, at in times.items() if at + timedelta(seconds=DELETION_SECONDS) > now}


def _status(budget: Obj, counts: Mapping[str, int], allowed: int, now: datetime) -> Obj:
    generation = int(budget["metadata"].get("generation") or 0)
    held = (budget.get("status") or {}).get("conditions") or []
    made: Obj = {"status": {**counts, "observedGeneration": generation, "conditions": [dict(one) for one in held]}}
    answer, reason = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    conditions.set_condition(made, "DisruptionAllowed", answer, now=now, reason=reason, observedGeneration=generation)
    for condition in made["status"]["conditions"]:
        # The schema of conditions requires a message, and Kubernetes leaves it empty here.
        condition.setdefault("message", "")
    status: Obj = made["status"]
    return status


def _nothing(budget: Obj, now: datetime, problem: str) -> Verdict:
    """Nothing may be disrupted: better too few evictions than too many."""
    made: Obj = {"status": {**(budget.get("status") or {}), "disruptionsAllowed": 0}}
    made["status"]["conditions"] = [dict(one) for one in made["status"].get("conditions") or []]
    generation = int(budget["metadata"].get("generation") or 0)
    conditions.set_condition(
        made,
        "DisruptionAllowed",
        "False",
        now=now,
        reason="SyncFailed",
        message=problem,
        observedGeneration=generation,
    )
    return Verdict(made["status"], problem=problem)

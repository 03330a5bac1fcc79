"""Which pods a running Job lacks or has too many of. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from corral.base.backoff import Backoff
from corral.controllers.jobs.counting import Count
from corral.controllers.jobs.indexes import index_of
from corral.controllers.jobs.pods import (
    FAILURES,
    IGNORED_FAILURES,
    annotation_number,
    ended_at,
    has_failed,
    is_indexed,
    replaces_only_failed,
)
from corral.controllers.jobs.policies import judge
from corral.controllers.pods.pods import is_terminating
from corral.controllers.pods.rank import victims
from corral.kinds.types import Obj

BURST = 500
"""Pods created or deleted in one step at most (Kubernetes' MaxPodCreateDeletePerSync)."""
POD_BACKOFF = Backoff(initial=10.0, maximum=600.0)
"""Between a failure and its replacement (Kubernetes' DefaultJobPodFailureBackOff and its maximum)."""


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed pods in a row, since the last one that succeeded."""

    number: int = 0
    latest: datetime | None = None

    def wait(self, now: datetime) -> float:
        """Seconds before the next pod may be made."""
        if not self.number or self.latest is None:
            return 0.0
        return max(0.0, POD_BACKOFF.delay(self.number - 1) - (now - self.latest).total_seconds())

    def after(self, count: Count, now: datetime) -> "Failures":
        """The row after the pods that have just ended."""
        failed = sorted(ended_at(pod, now) for pod in count.just_failed)
        succeeded = [ended_at(pod, now) for pod in count.just_succeeded]
        if not succeeded:
            return Failures(self.number + len(failed), failed[-1] if failed else self.latest)
        since = [moment for moment in failed if moment > max(succeeded)]
        return Failures(len(since), since[-1] if since else None)


@dataclass(frozen=True, slots=True)
class Creation:
    """A pod to make; `index` and `annotations` are for Indexed Jobs."""

    index: int | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods to `create`, pods to `drop`, and when to look again."""

    create: tuple[Creation, ...] = ()
    drop: tuple[Obj, ...] = ()
    look_again: float | None = None


def demand(
    job: Obj, pods: Sequence[Obj], active: Sequence[Obj], count: Count, failures: Failures, now: datetime
) -> Demand:
    """Compare active pods with parallelism and what is left to complete."""
    wanted = _wanted(job, active, count)
    drop = _duplicates(job, active, count) if is_indexed(job) else []
    kept = [pod for pod in active if pod not in drop]
    if len(kept) > wanted:
        drop += victims(kept, len(kept) - wanted, now)
    if drop:
        return Demand(drop=tuple(drop[:BURST]))
    leaving = [pod for pod in pods if is_terminating(pod)] if replaces_only_failed(job) else []
    missing = min(BURST, wanted - len(active) - len(leaving))
    if missing <= 0:
        return Demand()
    if job["spec"].get("backoffLimitPerIndex") is not None:
        return _by_index(job, pods, [*active, *leaving], count, missing, now)
    wait = failures.wait(now)
    if wait > 0:
        return Demand(look_again=wait)
    if not is_indexed(job):
        return Demand((Creation(),) * missing)
    free = _free_indexes(job, [*active, *leaving], count)
    return Demand(tuple(Creation(index) for index in free[:missing]))


def _wanted(job: Obj, active: Sequence[Obj], count: Count) -> int:
    spec = job["spec"]
    parallelism = int(spec.get("parallelism", 1))
    if spec.get("completions") is None:
        # A work queue: once one pod has succeeded the work is done, and no pod is added.
        return min(len(active), parallelism) if count.total_succeeded else parallelism
    settled = count.total_succeeded + len(count.failed_indexes)
    return max(0, min(int(spec["completions"]) - settled, parallelism))


def _duplicates(job: Obj, active: Sequence[Obj], count: Count) -> list[Obj]:
    """Active pods whose index is out of range, settled, or held by an older pod."""
    seen: Counter[int] = Counter()
    extra = []
    completions = int(job["spec"].get("completions") or 0)
    for pod in sorted(active, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["uid"])):
        index = index_of(pod)
        if index is None or index >= completions or index in count.completed or index in count.failed_indexes:
            extra.append(pod)
            continue
        seen[index] += 1
        if seen[index] > 1:
            extra.append(pod)
    return extra


def _free_indexes(job: Obj, taken_by: Sequence[Obj], count: Count) -> list[int]:
    taken = {index_of(pod) for pod in taken_by}
    return [
        index
        for index in range(int(job["spec"]["completions"]))
        if index not in taken and index not in count.completed and index not in count.failed_indexes
    ]


def _by_index(
    job: Obj, pods: Sequence[Obj], taken_by: Sequence[Obj], count: Count, missing: int, now: datetime
) -> Demand:
    """Each index has its own back-off and counts its own failures, carried on in annotations."""
    latest: dict[int, Obj] = {}
    for pod in pods:
        index = index_of(pod)
        if index is not None and has_failed(job, pod):
            before = latest.get(index)
            if before is None or _attempts(pod) >= _attempts(before):
                latest[index] = pod
    create: list[Creation] = []
    waits: list[float] = []
    for index in _free_indexes(job, taken_by, count):
        if len(create) == missing:
            break
        failed = latest.get(index)
        if failed is None:
            create.append(Creation(index, {FAILURES: "0"}))
            continue
        counts = judge(job, failed).counts
        failures = annotation_number(failed, FAILURES) + counts
        ignored = annotation_number(failed, IGNORED_FAILURES) + (not counts)
        wait = Failures(failures, ended_at(failed, now)).wait(now)
        if wait > 0:
            waits.append(wait)
        else:
            extra = {IGNORED_FAILURES: str(ignored)} if ignored else {}
            create.append(Creation(index, {FAILURES: str(failures), **extra}))
    return Demand(tuple(create), look_again=min(waits, default=None))


def _attempts(pod: Obj) -> int:
    return annotation_number(pod, FAILURES) + annotation_number(pod, IGNORED_FAILURES)

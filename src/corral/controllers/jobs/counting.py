"""Counting a Job's ended pods, each exactly once. Pure.

An ended pod is held by a finalizer. Its uid is first written into `status.uncountedTerminatedPods`; only then is the
finalizer taken off; and only when the finalizer is seen gone does the uid leave the list and raise the counter, in one
write. A crash between any two steps repeats a step, and repeating changes nothing. Succeeded indexes need no uid: the
set of completed indexes takes each once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.controllers.jobs.indexes import index_of, parse
from corral.controllers.jobs.pods import FAILURES, annotation_number, has_failed, is_indexed, is_tracked
from corral.controllers.jobs.policies import judge
from corral.controllers.pods.pods import is_active, is_deleting
from corral.kinds.podspec import phase
from corral.kinds.types import Obj

MOST_UNCOUNTED = 500
"""Uids in the status at most (Kubernetes' MaxUncountedPods)."""


@dataclass(frozen=True, slots=True)
class Count:
    """What has ended, and which pods may go once the status that says so is written."""

    succeeded: int
    """Counted for good, without uids."""
    failed: int
    uncounted_succeeded: tuple[str, ...]
    uncounted_failed: tuple[str, ...]
    completed: frozenset[int]
    """Succeeded indexes of an Indexed Job."""
    failed_indexes: frozenset[int]
    settle: tuple[Obj, ...]
    """Pods to take the finalizer off."""
    just_succeeded: tuple[Obj, ...]
    just_failed: tuple[Obj, ...]
    """Pods seen ended for the first time; among the failed, only those that count."""
    held: int
    """Failed pods that are not counted yet because their index is still to be tried again."""

    @property
    def total_succeeded(self) -> int:
        """Successes, counted or about to be."""
        return self.succeeded + len(self.uncounted_succeeded)

    @property
    def total_failed(self) -> int:
        """Failures, counted or about to be."""
        return self.failed + len(self.uncounted_failed) + self.held


class _Ledger:
    """The lists while they are being filled."""

    def __init__(self, job: Obj) -> None:
        status = job.get("status") or {}
        uncounted = status.get("uncountedTerminatedPods") or {}
        self.succeeded = int(status.get("succeeded") or 0)
        self.failed = int(status.get("failed") or 0)
        self.uncounted_succeeded: list[str] = list(uncounted.get("succeeded") or ())
        self.uncounted_failed: list[str] = list(uncounted.get("failed") or ())
        self.completed = set(parse(status.get("completedIndexes")))
        self.failed_indexes = set(parse(status.get("failedIndexes")))
        self.settle: list[Obj] = []
        self.just_succeeded: list[Obj] = []
        self.just_failed: list[Obj] = []
        self.held = 0

    def flush(self, tracked: frozenset[str]) -> None:
        """Count the uids whose pods are let go."""
        gone = [uid for uid in self.uncounted_succeeded if uid not in tracked]
        self.succeeded += len(gone)
        self.uncounted_succeeded = [uid for uid in self.uncounted_succeeded if uid in tracked]
        gone = [uid for uid in self.uncounted_failed if uid not in tracked]
        self.failed += len(gone)
        self.uncounted_failed = [uid for uid in self.uncounted_failed if uid in tracked]

    def is_full(self) -> bool:
        new_indexes = sum(1 for pod in self.just_succeeded if index_of(pod) is not None)
        return len(self.uncounted_succeeded) + len(self.uncounted_failed) + new_indexes >= MOST_UNCOUNTED

    def close(self, indexed: bool) -> Count:
        return Count(
            len(self.completed) if indexed else self.succeeded,
            self.failed,
            tuple(self.uncounted_succeeded),
            tuple(self.uncounted_failed),
            frozenset(self.completed),
            frozenset(self.failed_indexes),
            tuple(self.settle),
            tuple(self.just_succeeded),
            tuple(self.just_failed),
            self.held,
        )


def count(job: Obj, pods: Sequence[Obj], *, last: bool) -> Count:
    """Bring the counts up to date with `pods`; `last`: no more pods will be made, so none is held for its index."""
    ledger = _Ledger(job)
    tracked = [pod for pod in pods if is_tracked(pod)]
    ledger.flush(frozenset(pod["metadata"]["uid"] for pod in tracked))
    for pod in tracked:
        if ledger.is_full():
            break
        if phase(pod) == "Succeeded" and pod["metadata"]["uid"] not in ledger.uncounted_failed:
            _count_success(ledger, job, pod)
        elif has_failed(job, pod):
            _count_failure(ledger, job, pod, pods, last)
        elif is_deleting(job):
            ledger.settle.append(pod)
    return ledger.close(is_indexed(job))


def _count_success(ledger: _Ledger, job: Obj, pod: Obj) -> None:
    uid = pod["metadata"]["uid"]
    ledger.settle.append(pod)
    if is_indexed(job):
        index = index_of(pod)
        if _is_valid(job, index) and index is not None and index not in ledger.completed:
            ledger.completed.add(index)
            ledger.failed_indexes.discard(index)
            ledger.just_succeeded.append(pod)
    elif uid not in ledger.uncounted_succeeded:
        ledger.uncounted_succeeded.append(uid)
        ledger.just_succeeded.append(pod)


def _count_failure(ledger: _Ledger, job: Obj, pod: Obj, pods: Sequence[Obj], last: bool) -> None:
    uid = pod["metadata"]["uid"]
    if uid in ledger.uncounted_failed:
        ledger.settle.append(pod)
        return
    index = index_of(pod)
    verdict = judge(job, pod)
    if is_indexed(job) and not _is_valid(job, index):
        ledger.settle.append(pod)
        return
    limit = job["spec"].get("backoffLimitPerIndex")
    if limit is not None and index is not None:
        exhausted = verdict.counts and annotation_number(pod, FAILURES) >= int(limit)
        if index not in ledger.completed and (exhausted or verdict.action == "FailIndex"):
            ledger.failed_indexes.add(index)
        undecided = index not in ledger.completed and index not in ledger.failed_indexes
        if undecided and not last and not is_deleting(job) and not _is_replaced(pod, index, pods):
            ledger.held += verdict.counts
            return
    ledger.settle.append(pod)
    if verdict.counts:
        ledger.uncounted_failed.append(uid)
        ledger.just_failed.append(pod)


def _is_replaced(pod: Obj, index: int, pods: Sequence[Obj]) -> bool:
    """Whether a later pod of the index carries on its number of failures."""
    age = _age(pod)
    return any(
        other is not pod and index_of(other) == index and (is_active(other) or _age(other) > age) for other in pods
    )


def _age(pod: Obj) -> tuple[int, str, str]:
    metadata = pod["metadata"]
    return (annotation_number(pod, FAILURES), metadata.get("creationTimestamp", ""), metadata["uid"])


def _is_valid(job: Obj, index: int | None) -> bool:
    completions = job["spec"].get("completions")
    return index is not None and completions is not None and index < int(completions)

"""Whether a Job is decided, and how. Pure.

A Job ends in two steps: `SuccessCriteriaMet` or `FailureTarget` says how it will end, and its remaining pods are
stopped; `Complete` or `Failed` follows when no pod is left running.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from corral.base.clock import parse_rfc3339
from corral.controllers.jobs.counting import Count
from corral.controllers.jobs.pods import has_failed, is_indexed, total_restarts
from corral.controllers.jobs.policies import judge, success_rule
from corral.kinds import conditions
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Ending:
    """How the Job ends; reason and message stand in both conditions."""

    success: bool
    reason: str
    message: str

    @property
    def first(self) -> str:
        """The condition that announces it."""
        return "SuccessCriteriaMet" if self.success else "FailureTarget"

    @property
    def second(self) -> str:
        """The condition that concludes it."""
        return "Complete" if self.success else "Failed"


def is_finished(job: Obj) -> bool:
    """Whether the Job has ended for good."""
    return conditions.is_true(job, "Complete") or conditions.is_true(job, "Failed")


def finished_at(job: Obj) -> datetime | None:
    """When the Job ended."""
    for type_ in ("Complete", "Failed"):
        condition = conditions.get(job, type_)
        if condition is not None and condition.get("status") == "True":
            return parse_rfc3339(condition["lastTransitionTime"])
    return None


def ending(job: Obj, pods: Sequence[Obj], active: Sequence[Obj], count: Count, now: datetime) -> Ending | None:
    """How the Job ends, as announced before or decided now; None while it goes on."""
    for success, type_ in ((True, "SuccessCriteriaMet"), (False, "FailureTarget")):
        announced = conditions.get(job, type_)
        if announced is not None and announced.get("status") == "True":
            return Ending(success, announced.get("reason", ""), announced.get("message", ""))
    return _failure(job, pods, active, count, now) or _success(job, active, count)


def deadline_in(job: Obj, now: datetime) -> float | None:
    """Seconds until `activeDeadlineSeconds` is over; None without one, before the start, or while suspended."""
    seconds = job["spec"].get("activeDeadlineSeconds")
    started = (job.get("status") or {}).get("startTime")
    if seconds is None or not started or job["spec"].get("suspend"):
        return None
    return (parse_rfc3339(started) + timedelta(seconds=int(seconds)) - now).total_seconds()


def _failure(job: Obj, pods: Sequence[Obj], active: Sequence[Obj], count: Count, now: datetime) -> Ending | None:
    spec = job["spec"]
    for pod in pods:
        if has_failed(job, pod) and (verdict := judge(job, pod)).action == "FailJob":
            return Ending(False, "PodFailurePolicy", verdict.message)
    limit = int(spec.get("backoffLimit", 6))
    restarting = spec["template"]["spec"].get("restartPolicy") == "OnFailure"
    restarts = total_restarts(pods) if restarting else 0
    if count.total_failed > limit or (restarts and restarts >= max(1, limit)):
        return Ending(False, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    remaining = deadline_in(job, now)
    if remaining is not None and remaining <= 0:
        return Ending(False, "DeadlineExceeded", "Job was active longer than specified deadline")
    return _failed_indexes(job, count)


def _failed_indexes(job: Obj, count: Count) -> Ending | None:
    spec = job["spec"]
    if spec.get("backoffLimitPerIndex") is None or not count.failed_indexes:
        return None
    most = spec.get("maxFailedIndexes")
    if most is not None and len(count.failed_indexes) > int(most):
        text = "Job has exceeded the specified maximal number of failed indexes"
        return Ending(False, "MaxFailedIndexesExceeded", text)
    if len(count.completed) + len(count.failed_indexes) >= int(spec.get("completions") or 0):
        return Ending(False, "FailedIndexes", "Job has failed indexes")
    return None


def _success(job: Obj, active: Sequence[Obj], count: Count) -> Ending | None:
    completions = job["spec"].get("completions")
    if is_indexed(job) and (matched := success_rule(job, count.completed)):
        return Ending(True, "SuccessPolicy", matched)
    if completions is None:
        reached = count.total_succeeded > 0 and not active
    else:
        reached = count.total_succeeded >= int(completions)
    return Ending(True, "CompletionsReached", "Reached expected number of succeeded pods") if reached else None

"""What a Job needs next. Pure."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from corral.base.clock import rfc3339
from corral.controllers.jobs.counting import Count, count
from corral.controllers.jobs.demand import Creation, Demand, Failures, demand
from corral.controllers.jobs.finishing import Ending, deadline_in, ending, is_finished
from corral.controllers.jobs.indexes import render
from corral.controllers.jobs.pods import is_indexed, is_tracked
from corral.controllers.pods.pods import is_active, is_deleting, is_terminating
from corral.kinds import conditions
from corral.kinds.podspec import is_ready
from corral.kinds.types import Obj


@dataclass(frozen=True, slots=True)
class Saying:
    """An event about the Job."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Performed in this order: drop, stop, create, write the status, settle."""

    status: Obj
    failures: Failures
    """To be handed to the next `plan`."""
    drop: tuple[Obj, ...] = ()
    """Pods to delete that never were needed: they are not counted."""
    stop: tuple[Obj, ...] = ()
    """Pods to delete because the Job is decided."""
    create: tuple[Creation, ...] = ()
    settle: tuple[Obj, ...] = ()
    """Ended pods that the status now accounts for: take the finalizer off."""
    say: tuple[Saying, ...] = ()
    look_again: float | None = None


def plan(job: Obj, pods: Sequence[Obj], failures: Failures, now: datetime) -> Plan:
    """The next step of `job`, whose pods (by controller reference) are `pods`."""
    if is_finished(job):
        return _after_the_end(job, pods, failures)
    active = [pod for pod in pods if is_active(pod)]
    decided = conditions.is_true(job, "FailureTarget") or conditions.is_true(job, "SuccessCriteriaMet")
    counted = count(job, pods, last=decided)
    failures = failures.after(counted, now)
    end = None if is_deleting(job) else ending(job, pods, active, counted, now)
    drop, stop, need = _pods(job, pods, active, counted, failures, end, now)
    carrier: Obj = {"status": {"conditions": deepcopy((job.get("status") or {}).get("conditions") or [])}}
    say = _suspension(carrier, job, now)
    left = len(active) - len(drop) - len(stop) + len(need.create)
    running = left + len(stop) + sum(is_terminating(pod) for pod in pods)
    concluded = False
    if end is not None:
        conditions.set_condition(
            carrier, end.first, "True", now=now, reason=end.reason, message=end.message, **_probe(now)
        )
        concluded = running == 0 and not (counted.uncounted_succeeded or counted.uncounted_failed or counted.settle)
        if concluded:
            say += _conclude(carrier, end, now)
    status = _status(
        job, carrier, counted, now, started=_start_time(job, now), ended=concluded and end is not None and end.success
    )
    status.update(
        active=left,
        ready=sum(is_ready(pod) for pod in active if pod not in drop and pod not in stop),
        terminating=sum(is_terminating(pod) for pod in pods) + len(drop) + len(stop),
    )
    waits = [need.look_again, deadline_in({**job, "status": status}, now)]
    return Plan(
        {name: value for name, value in status.items() if value is not None},
        failures,
        drop,
        stop,
        need.create,
        counted.settle,
        say,
        min((wait for wait in waits if wait is not None and end is None), default=None),
    )


def _pods(
    job: Obj,
    pods: Sequence[Obj],
    active: Sequence[Obj],
    counted: Count,
    failures: Failures,
    end: Ending | None,
    now: datetime,
) -> tuple[tuple[Obj, ...], tuple[Obj, ...], Demand]:
    """Pods to drop, pods to stop, and the rest of the demand."""
    if is_deleting(job):
        return (), (), Demand()
    if end is not None:
        return (), tuple(active), Demand()
    if job["spec"].get("suspend"):
        return tuple(active), (), Demand()
    need = demand(job, pods, active, counted, failures, now)
    return need.drop, (), need


def _status(job: Obj, carrier: Obj, counted: Count, now: datetime, *, started: str | None, ended: bool) -> Obj:
    before = job.get("status") or {}
    uncounted: Obj = {}
    if counted.uncounted_succeeded:
        uncounted["succeeded"] = list(counted.uncounted_succeeded)
    if counted.uncounted_failed:
        uncounted["failed"] = list(counted.uncounted_failed)
    status: Obj = {
        "conditions": carrier["status"]["conditions"] or None,
        "startTime": started,
        "completionTime": rfc3339(now) if ended else before.get("completionTime"),
        "succeeded": counted.succeeded or None,
        "failed": counted.failed or None,
        "uncountedTerminatedPods": uncounted,
    }
    if is_indexed(job):
        status["completedIndexes"] = render(counted.completed) or None
        if job["spec"].get("backoffLimitPerIndex") is not None:
            status["failedIndexes"] = render(counted.failed_indexes)
    return status


def _probe(now: datetime) -> dict[str, str]:
    return {"lastProbeTime": rfc3339(now)}


def _conclude(carrier: Obj, end: Ending, now: datetime) -> tuple[Saying, ...]:
    conditions.set_condition(
        carrier, end.second, "True", now=now, reason=end.reason, message=end.message, **_probe(now)
    )
    if end.success:
        return (Saying("Normal", "Completed", "Job completed"),)
    return (Saying("Warning", end.reason, end.message),)


def _start_time(job: Obj, now: datetime) -> str | None:
    if job["spec"].get("suspend"):
        return None
    started: str | None = (job.get("status") or {}).get("startTime")
    return started or rfc3339(now)


def _suspension(carrier: Obj, job: Obj, now: datetime) -> tuple[Saying, ...]:
    suspended = bool(job["spec"].get("suspend"))
    if conditions.is_true(carrier, "Suspended") == suspended:
        return ()
    reason, message = ("JobSuspended", "Job suspended") if suspended else ("JobResumed", "Job resumed")
    value = "True" if suspended else "False"
    conditions.set_condition(carrier, "Suspended", value, now=now, reason=reason, message=message, **_probe(now))
    return (Saying("Normal", reason.removeprefix("Job"), message),)


def _after_the_end(job: Obj, pods: Sequence[Obj], failures: Failures) -> Plan:
    tracked = tuple(pod for pod in pods if is_tracked(pod))
    return Plan(job.get("status") or {}, failures, settle=tracked)

"""What a CronJob needs next. Pure."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from corral.base.clock import parse_rfc3339, rfc3339
from corral.controllers.cronjobs.schedule import Schedule, parse
from corral.controllers.jobs.finishing import is_finished
from corral.controllers.pods.pods import is_deleting
from corral.kinds import conditions
from corral.kinds.owners import controller_reference
from corral.kinds.types import Obj
from corral.machinery.events import reference

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY_MISSED = 100
"""Missed times after which somebody should know (Kubernetes has the same bound)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Delete `replace`, create `create`, write `status`, delete `clean_up`."""

    status: Obj
    create: Obj | None = None
    replace: tuple[Obj, ...] = ()
    clean_up: tuple[Obj, ...] = ()
    warning: tuple[str, str] | None = None
    """Reason and message of an event."""
    look_again: float | None = None


def plan(cron_job: Obj, jobs: Sequence[Obj], now: datetime) -> Plan:
    """The next step, given the Jobs that the CronJob controls."""
    spec = cron_job["spec"]
    active = [job for job in jobs if not is_finished(job)]
    status = _status(cron_job, jobs, active)
    clean_up = _surplus(spec, jobs)
    if is_deleting(cron_job):
        return Plan(status)
    try:
        schedule, zone = parse(spec["schedule"]), ZoneInfo(spec.get("timeZone") or "UTC")
    except (ValueError, KeyError, OSError) as error:
        return Plan(status, clean_up=clean_up, warning=("UnparseableSchedule", f"cannot schedule: {error}"))
    if spec.get("suspend"):
        return Plan(status, clean_up=clean_up)
    due, missed = _due(cron_job, schedule, zone, now)
    upcoming = schedule.next(now, zone)
    look_again = (upcoming - now).total_seconds() if upcoming is not None else None
    if due is None:
        return Plan(status, clean_up=clean_up, look_again=look_again)
    warning = None
    if missed > _MANY_MISSED:
        text = (
            f"too many missed start times: {missed}. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
        )
        warning = ("TooManyMissedTimes", text)
    policy = spec.get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        text = "Not starting job because prior execution is running and concurrency policy is Forbid"
        return Plan(status, clean_up=clean_up, warning=("JobAlreadyActive", text), look_again=look_again)
    job = _job(cron_job, due)
    replace = tuple(active) if policy == "Replace" else ()
    status["lastScheduleTime"] = rfc3339(due)
    return Plan(status, job, replace, clean_up, warning, look_again)


def _due(cron_job: Obj, schedule: Schedule, zone: ZoneInfo, now: datetime) -> tuple[datetime | None, int]:
    """The latest time that has come up and was not acted on, and how many there were."""
    last = (cron_job.get("status") or {}).get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"]
    after = parse_rfc3339(last)
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        after = max(after, now - timedelta(seconds=int(deadline)))
    due, missed = None, 0
    moment = schedule.next(after.astimezone(UTC), zone)
    while moment is not None and moment <= now:
        due, missed = moment, missed + 1
        if missed > _MANY_MISSED:
            return _latest(schedule, zone, moment, now), missed
        moment = schedule.next(moment, zone)
    return due, missed


def _latest(schedule: Schedule, zone: ZoneInfo, after: datetime, now: datetime) -> datetime:
    """The last time up to `now`, by looking back over longer and longer spans instead of through every missed one."""
    span = timedelta(minutes=1)
    while True:
        found, moment = None, schedule.next(max(after, now - span), zone)
        while moment is not None and moment <= now:
            found, moment = moment, schedule.next(moment, zone)
        if found is not None or now - span <= after:
            return found or after
        span *= 4


def _job(cron_job: Obj, due: datetime) -> Obj:
    template = deepcopy(cron_job["spec"]["jobTemplate"])
    described = template.get("metadata") or {}
    minutes = int(due.timestamp()) // 60
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {
            "name": f"{cron_job['metadata']['name']}-{minutes}",
            "namespace": cron_job["metadata"]["namespace"],
            "labels": described.get("labels") or {},
            "annotations": {**(described.get("annotations") or {}), SCHEDULED: rfc3339(due)},
            "ownerReferences": [controller_reference(cron_job)],
        },
        "spec": template["spec"],
    }


def _status(cron_job: Obj, jobs: Sequence[Obj], active: Sequence[Obj]) -> Obj:
    before = cron_job.get("status") or {}
    status: Obj = {}
    if active:
        status["active"] = [reference(job) for job in sorted(active, key=_age)]
    if before.get("lastScheduleTime"):
        status["lastScheduleTime"] = before["lastScheduleTime"]
    ends = [
        job["status"]["completionTime"]
        for job in jobs
        if conditions.is_true(job, "Complete") and (job.get("status") or {}).get("completionTime")
    ]
    latest = max([*ends, before.get("lastSuccessfulTime") or ""], key=lambda text: text, default="")
    if latest:
        status["lastSuccessfulTime"] = latest
    return status


def _surplus(spec: Obj, jobs: Sequence[Obj]) -> tuple[Obj, ...]:
    """Finished Jobs beyond the history limits, oldest first."""
    surplus: list[Obj] = []
    for type_, limit in (
        ("Complete", spec.get("successfulJobsHistoryLimit", 3)),
        ("Failed", spec.get("failedJobsHistoryLimit", 1)),
    ):
        finished = sorted((job for job in jobs if conditions.is_true(job, type_) and not is_deleting(job)), key=_age)
        surplus += finished[: max(0, len(finished) - int(limit))]
    return tuple(surplus)


def _age(job: Obj) -> tuple[str, str]:
    return (job["metadata"].get("creationTimestamp", ""), job["metadata"]["name"])

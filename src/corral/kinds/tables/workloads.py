"""Tables of what makes pods: deployments, replica sets, stateful sets, daemon sets, jobs, cron jobs."""

from datetime import datetime
from typing import Final

from corral.base.clock import parse_rfc3339
from corral.kinds import owners
from corral.kinds.tables.durations import human_duration, since
from corral.kinds.tables.printer import (
    AGE,
    NAME,
    Printers,
    number,
    of_spec,
    of_status,
    printer,
    spec,
    status,
    text,
    timed,
)
from corral.kinds.tables.texts import (
    NONE,
    condition_is_true,
    container_columns,
    flag,
    labels_text,
    selector_or_none,
    selector_text,
    template_spec,
)
from corral.kinds.types import Obj


def _ready(obj: Obj) -> str:
    return f"{of_status('readyReplicas')(obj)}/{of_spec('replicas', 0)(obj)}"


def _selector(obj: Obj) -> str:
    return selector_or_none(spec(obj).get("selector"))


# In order of precedence; a job in none of these states is Running.
_JOB_ENDS: Final = (("Complete", "Complete"), ("Failed", "Failed"))
_JOB_STATES: Final = (
    ("Suspended", "Suspended"),
    ("FailureTarget", "FailureTarget"),
    ("SuccessCriteriaMet", "SuccessCriteriaMet"),
)


def _job_status(job: Obj) -> str:
    held = status(job).get("conditions")
    for type_, said in _JOB_ENDS:
        if condition_is_true(held, type_):
            return said
    if job["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return next((said for type_, said in _JOB_STATES if condition_is_true(held, type_)), "Running")


def _completions(job: Obj) -> str:
    succeeded = status(job).get("succeeded") or 0
    wanted = spec(job).get("completions")
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    parallelism = spec(job).get("parallelism") or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _job_duration(job: Obj, now: datetime) -> str:
    started, completed = status(job).get("startTime"), status(job).get("completionTime")
    if not started:
        return ""
    end = parse_rfc3339(completed) if completed else now
    return human_duration((end - parse_rfc3339(started)).total_seconds())


def _job_template(cron_job: Obj) -> Obj:
    return spec(cron_job).get("jobTemplate") or {}


def _last_schedule(cron_job: Obj, now: datetime) -> str:
    last = status(cron_job).get("lastScheduleTime")
    return since(last, now) if last else NONE


def _revision_controller(revision: Obj) -> str:
    reference = owners.controller_of(revision)
    if reference is None:
        return NONE
    group = reference["apiVersion"].rpartition("/")[0]
    kind = f"{reference['kind']}.{group}" if group else reference["kind"]
    return f"{kind.lower()}/{reference['name']}"


PRINTERS: Final[Printers] = {
    ("apps", "deployments"): printer(
        NAME,
        text("Ready", _ready),
        text("Up-to-date", of_status("updatedReplicas")),
        text("Available", of_status("availableReplicas")),
        AGE,
        *container_columns(),
        text("Selector", lambda obj: selector_text(spec(obj).get("selector")), wide=True),
    ),
    ("apps", "replicasets"): printer(
        NAME,
        number("Desired", of_spec("replicas", 0)),
        number("Current", of_status("replicas")),
        number("Ready", of_status("readyReplicas")),
        AGE,
        *container_columns(),
        text("Selector", _selector, wide=True),
    ),
    ("", "replicationcontrollers"): printer(
        NAME,
        number("Desired", of_spec("replicas", 0)),
        number("Current", of_status("replicas")),
        number("Ready", of_status("readyReplicas")),
        AGE,
        *container_columns(),
        text("Selector", lambda obj: labels_text(spec(obj).get("selector")), wide=True),
    ),
    ("apps", "statefulsets"): printer(NAME, text("Ready", _ready), AGE, *container_columns()),
    ("apps", "daemonsets"): printer(
        NAME,
        number("Desired", of_status("desiredNumberScheduled")),
        number("Current", of_status("currentNumberScheduled")),
        number("Ready", of_status("numberReady")),
        number("Up-to-date", of_status("updatedNumberScheduled")),
        number("Available", of_status("numberAvailable")),
        text("Node Selector", lambda obj: labels_text(template_spec(obj).get("nodeSelector"))),
        AGE,
        *container_columns(),
        text("Selector", _selector, wide=True),
    ),
    ("batch", "jobs"): printer(
        NAME,
        text("Status", _job_status),
        text("Completions", _completions),
        timed("Duration", _job_duration),
        AGE,
        *container_columns(),
        text("Selector", _selector, wide=True),
    ),
    ("batch", "cronjobs"): printer(
        NAME,
        text("Schedule", of_spec("schedule")),
        text("Timezone", of_spec("timeZone", NONE)),
        text("Suspend", lambda obj: flag(spec(obj).get("suspend")), type="boolean"),
        number("Active", lambda obj: len(status(obj).get("active") or ())),
        timed("Last Schedule", _last_schedule),
        AGE,
        *container_columns(lambda obj: template_spec(_job_template(obj))),
        text("Selector", lambda obj: selector_or_none(spec(_job_template(obj)).get("selector")), wide=True),
    ),
    ("apps", "controllerrevisions"): printer(
        NAME,
        text("Controller", _revision_controller),
        text("Revision", lambda obj: obj.get("revision", 0)),
        AGE,
    ),
}

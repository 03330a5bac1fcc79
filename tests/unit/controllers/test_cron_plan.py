"""Schedules and what a CronJob does with them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.base.clock import rfc3339
from corral.controllers.cronjobs.plan import SCHEDULED, plan
from corral.controllers.cronjobs.schedule import parse
from corral.kinds.types import Obj

START = datetime(2026, 3, 4, 12, 34, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-03-04T12:35:00Z"),
        ("*/15 * * * *", "2026-03-04T12:45:00Z"),
        ("0 9-17/4 * * *", "2026-03-04T13:00:00Z"),
        ("@hourly", "2026-03-04T13:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("30 6 * * mon-fri", "2026-03-05T06:30:00Z"),
        ("0 0 * * 7", "2026-03-08T00:00:00Z"),
        ("0 0 13 * fri", "2026-03-06T00:00:00Z"),
        ("0 0 29 feb *", "2028-02-29T00:00:00Z"),
        ("5,10 0 1 JAN,JUL *", "2026-07-01T00:05:00Z"),
    ],
)
def test_next(text: str, expected: str) -> None:
    found = parse(text).next(START, UTC)
    assert found is not None
    assert rfc3339(found) == expected


def test_never() -> None:
    assert parse("0 0 30 2 *").next(START, UTC) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("* * * *", "expected 5 fields"),
        ("60 * * * *", "minute '60': it must be within 0-59"),
        ("* * 0 * *", "day of month"),
        ("*/0 * * * *", "step"),
        ("5-1 * * * *", "ends before it begins"),
        ("* * * foo *", "month 'foo'"),
    ],
)
def test_errors_name_the_field(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


def test_daylight_saving() -> None:
    zone = ZoneInfo("Europe/Berlin")
    skipped = parse("30 2 * * *").next(datetime(2026, 3, 28, 12, tzinfo=UTC), zone)
    assert skipped is not None
    assert rfc3339(skipped) == "2026-03-30T00:30:00Z"
    autumn = parse("30 2 * * *")
    first = autumn.next(datetime(2026, 10, 24, 12, tzinfo=UTC), zone)
    assert first is not None
    second = autumn.next(first, zone)
    assert second is not None
    assert second - first == timedelta(hours=25)


@given(st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)), st.integers(1, 59))
def test_the_next_time_is_later_and_on_schedule(moment: datetime, step: int) -> None:
    after = moment.replace(tzinfo=UTC)
    found = parse(f"*/{step} * * * *").next(after, UTC)
    assert found is not None
    assert after < found <= after + timedelta(hours=1)
    assert found.minute % step == 0


def cron_job(schedule: str = "* * * * *", last: datetime | None = None, **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}
    made: Obj = {
        "kind": "CronJob",
        "apiVersion": "batch/v1",
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": rfc3339(START)},
        "spec": {"schedule": schedule, "jobTemplate": template, **spec},
    }
    if last is not None:
        made["status"] = {"lastScheduleTime": rfc3339(last)}
    return made


def job(name: str, type_: str = "", created: int = 0) -> Obj:
    conditions = [{"type": type_, "status": "True"}] if type_ else []
    moment = rfc3339(START + timedelta(minutes=created))
    status = {"conditions": conditions, "completionTime": moment}
    metadata = {"name": name, "namespace": "n", "uid": name, "creationTimestamp": moment}
    return {"kind": "Job", "apiVersion": "batch/v1", "metadata": metadata, "status": status}


def test_waits_for_the_next_time() -> None:
    made = plan(cron_job(), [], START)
    assert made.create is None
    assert made.look_again == pytest.approx(4.0)


def test_makes_one_job_for_the_latest_of_the_missed_times() -> None:
    now = START + timedelta(minutes=30)
    made = plan(cron_job(), [], now)
    assert made.create is not None
    scheduled = now.replace(second=0)
    assert made.create["metadata"]["name"] == f"c-{int(scheduled.timestamp()) // 60}"
    assert made.create["metadata"]["annotations"][SCHEDULED] == rfc3339(scheduled)
    assert made.status["lastScheduleTime"] == rfc3339(scheduled)
    assert plan({**cron_job(), "status": made.status}, [], now).create is None


def test_many_missed_times_are_told_and_still_one_job() -> None:
    now = START + timedelta(days=400)
    made = plan(cron_job(), [], now)
    assert made.warning is not None
    assert made.warning[0] == "TooManyMissedTimes"
    assert made.status["lastScheduleTime"] == rfc3339(now.replace(second=0))


def test_a_starting_deadline_forgets_what_is_too_late() -> None:
    now = START.replace(second=30) + timedelta(minutes=10)
    assert plan(cron_job(startingDeadlineSeconds=10), [], now).create is None
    assert plan(cron_job(startingDeadlineSeconds=40), [], now).create is not None


def test_concurrency() -> None:
    now = START + timedelta(minutes=1)
    running = job("r")
    assert plan(cron_job(), [running], now).create is not None
    forbidden = plan(cron_job(concurrencyPolicy="Forbid"), [running], now)
    assert forbidden.create is None
    assert forbidden.warning is not None
    replaced = plan(cron_job(concurrencyPolicy="Replace"), [running], now)
    assert replaced.create is not None
    assert replaced.replace == (running,)
    assert replaced.status["active"][0]["name"] == "r"


def test_history_is_limited() -> None:
    jobs = [job(f"s{n}", "Complete", n) for n in range(5)] + [job(f"f{n}", "Failed", n) for n in range(3)]
    made = plan(cron_job(suspend=True), jobs, START)
    assert [old["metadata"]["name"] for old in made.clean_up] == ["s0", "s1", "f0", "f1"]
    assert made.status["lastSuccessfulTime"] == rfc3339(START + timedelta(minutes=4))


def test_a_schedule_that_cannot_be_read_is_told() -> None:
    made = plan(cron_job("nonsense"), [], START)
    assert made.warning is not None
    assert made.warning[0] == "UnparseableSchedule"
    assert plan(cron_job(timeZone="Nowhere/Land"), [], START).warning is not None

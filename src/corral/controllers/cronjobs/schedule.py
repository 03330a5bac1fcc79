"""Cron schedules. Pure.

Five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps and names, and words such as
`@daily`, as in Kubernetes (robfig/cron's standard parser). When both days are restricted, either may match.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

_MONTH_NAMES: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS: Final = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_WORDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_HORIZON: Final = timedelta(days=366 * 5)
"""A schedule that does not come up within five years (30 February) never does."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The minutes at which something is to happen."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    any_day: bool
    any_weekday: bool

    def matches_day(self, moment: datetime) -> bool:
        """Whether the day of `moment` is one of the schedule's."""
        if moment.month not in self.months:
            return False
        by_date = moment.day in self.days
        by_weekday = moment.isoweekday() % 7 in self.weekdays
        return by_date and by_weekday if self.any_day or self.any_weekday else by_date or by_weekday

    def next(self, after: datetime, zone: tzinfo) -> datetime | None:
        """The first moment after `after`, on the clocks of `zone`; None if there is none in five years.

        A local time that clocks skip in spring does not happen; one that they repeat in autumn happens once.
        """
        local = after.astimezone(zone).replace(second=0, microsecond=0, tzinfo=None) + timedelta(minutes=1)
        end = local + _HORIZON
        while local < end:
            if not self.matches_day(local):
                local = local.replace(hour=0, minute=0) + timedelta(days=1)
            elif local.hour not in self.hours:
                local = local.replace(minute=0) + timedelta(hours=1)
            elif local.minute not in self.minutes:
                local += timedelta(minutes=1)
            else:
                found = local.replace(tzinfo=zone)
                exists = found.astimezone(after.tzinfo).astimezone(zone).replace(tzinfo=None) == local
                if exists and found > after:
                    return found.astimezone(after.tzinfo)
                local += timedelta(minutes=1)
        return None


def parse(text: str) -> Schedule:
    """Read a schedule.

    Raises:
        ValueError: it is none; the message names the field.
    """
    fields = _WORDS.get(text.strip(), text).split()
    if len(fields) != 5:
        raise ValueError(f"cannot read the schedule {text!r}: expected 5 fields (minute hour day month weekday)")
    weekdays = _field(fields[4], "day of week", 0, 7, _DAYS)
    return Schedule(
        _field(fields[0], "minute", 0, 59, {}),
        _field(fields[1], "hour", 0, 23, {}),
        _field(fields[2], "day of month", 1, 31, {}),
        _field(fields[3], "month", 1, 12, _MONTHS),
        frozenset(day % 7 for day in weekdays),
        any_day=fields[2][0] in "*?",
        any_weekday=fields[4][0] in "*?",
    )


def _field(text: str, what: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        if slash and (not step_text.isdigit() or int(step_text) == 0):
            raise ValueError(f"cannot read {what} {part!r}: the step must be a positive number")
        if first_text in ("*", "?"):
            first, last = low, high if what != "day of week" else 6
        else:
            first = _number(first_text, what, low, high, names)
            last = _number(last_text, what, low, high, names) if dash else (high if slash else first)
        if first > last:
            raise ValueError(f"cannot read {what} {part!r}: the range ends before it begins")
        found.update(range(first, last + 1, int(step_text) if slash else 1))
    return frozenset(found)


def _number(text: str, what: str, low: int, high: int, names: dict[str, int]) -> int:
    number = names.get(text.lower(), int(text) if text.isdigit() else -1)
    if not low <= number <= high:
        raise ValueError(f"cannot read {what} {text!r}: it must be within {low}-{high}")
    return number

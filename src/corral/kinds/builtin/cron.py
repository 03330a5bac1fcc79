"""Whether a text is a cron schedule as Kubernetes takes it: five fields, or `@daily` and its like."""

import re
from typing import Final

_MACROS: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_EVERY: Final = re.compile(r"@every (\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
_MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_FIELDS: Final = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS)),
    ("day of week", 0, 6, tuple(_DAYS)),
)


def cron_problem(schedule: str) -> str:
    """What is wrong with a schedule, in words; empty if nothing is."""
    if schedule.startswith("@"):
        if schedule in _MACROS or _EVERY.fullmatch(schedule):
            return ""
        return f"unrecognized descriptor: {schedule}"
    parts = schedule.split()
    if len(parts) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(parts)}: {parts}".replace("'", "")
    for text, (name, low, high, names) in zip(parts, _FIELDS, strict=True):
        problem = _field_problem(text, low, high, names)
        if problem:
            return f"{problem} in the field {name} ({text})"
    return ""


def _field_problem(text: str, low: int, high: int, names: tuple[str, ...]) -> str:
    for part in text.split(","):
        span, slash, step = part.partition("/")
        if slash and (not step.isdecimal() or int(step) == 0):
            return "step must be a positive number"
        if span in ("*", "?"):
            continue
        ends = [_number(end, names) for end in span.split("-")]
        if len(ends) > 2 or None in ends:
            return "failed to parse"
        first, last = ends[0], ends[-1]
        if first is None or last is None or first < low or last > high:
            return f"values must be between {low} and {high}"
        if first > last:
            return "beginning of range is beyond its end"
    return ""


def _number(text: str, names: tuple[str, ...]) -> int | None:
    if text.isdecimal():
        return int(text)
    lowered = text.lower()
    return names.index(lowered) if lowered and lowered in names else None

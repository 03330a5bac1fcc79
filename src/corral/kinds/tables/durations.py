"""Time spans as people read them: `45s`, `5m12s`, `3h`, `8d`."""

from datetime import datetime

from corral.base.clock import parse_rfc3339
from corral.kinds.types import Obj

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY


def human_duration(seconds: float) -> str:
    """A span in at most two units, coarser the longer it is.

    Thresholds as in apimachinery's util/duration.HumanDuration; a span more than a second below zero is `<invalid>`.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two_units(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two_units(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two_units(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two_units(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


def _two_units(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large}{large_name}{rest}{small_name}" if rest else f"{seconds // large}{large_name}"


def since(timestamp: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 `timestamp` was; `<unknown>` without one, `<invalid>` if it cannot be read."""
    if not timestamp:
        return "<unknown>"
    try:
        return human_duration((now - parse_rfc3339(timestamp)).total_seconds())
    except ValueError:
        return "<invalid>"


def age(obj: Obj, now: datetime) -> str:
    """How long ago the object was created."""
    return since(obj["metadata"].get("creationTimestamp"), now)

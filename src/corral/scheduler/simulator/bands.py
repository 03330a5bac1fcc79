"""Priorities by name, and the band that a priority belongs to. Pure.

The bands are Borg's (EuroSys'15, section 2.5); a band reaches from its own value up to the next one's.
"""

from collections.abc import Mapping

PRIORITIES: Mapping[str, int] = {
    "system-node-critical": 2_000_001_000,
    "system-cluster-critical": 2_000_000_000,
    "corral-monitoring": 300_000_000,
    "corral-production": 200_000_000,
    "corral-batch": 100_000_000,
    "corral-free": 0,
}
"""The PriorityClasses that every cell has."""

_FLOORS = (
    ("system", 2_000_000_000),
    ("monitoring", 300_000_000),
    ("production", 200_000_000),
    ("batch", 100_000_000),
)
BANDS = (*(name for name, _ in _FLOORS), "free")
"""Most important first."""


def band(priority: int) -> str:
    """The name of the band that `priority` is in."""
    return next((name for name, floor in _FLOORS if priority >= floor), "free")

"""Fencing: writes that count only while their author still leads.

A leader that was asleep may wake up with a write in hand after another has taken over, whatever its clock says. So each
leader begins with a write to a key of its own making, and all it does afterwards carries that key's revision: etcd
makes such a write only if the key still has it (Kleppmann, "How to do distributed locking", 2016). The fence travels
with the task that does the work.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from corral.base.errors import CorralError


@dataclass(frozen=True, slots=True)
class Fence:
    """`key` must still have been written last by `revision`."""

    key: str
    revision: int


class Fenced(CorralError):
    """Another leads by now: the write was not made."""


FENCE: ContextVar[Fence | None] = ContextVar("fence", default=None)
"""What the writes of this task depend on."""

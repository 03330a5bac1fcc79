"""What a controller is. Built-in controllers use nothing that a user's controller could not.

A controller declares what it reads and what it writes, and reconciles one key at a time. The runner keeps informers for
`reads`, turns events into keys with `keys_for`, never runs one key twice at once, coalesces, and retries. Results are
values.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from corral.kinds.types import Key, Obj, Resource


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do until something changes."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Look again in `after` seconds (or earlier, if something changes)."""

    after: float


@dataclass(frozen=True, slots=True)
class Temporary:
    """It did not work, it may later: retried with back-off. `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Permanent:
    """It will not work until the object changes. `reason` is for people."""

    reason: str


Result: TypeAlias = Done | Requeue | Temporary | Permanent


class Controller(Protocol):
    """One controller. `name` is also the field manager of what it writes and the user it acts as."""

    name: str
    reads: Sequence[Resource]
    """Kinds to keep in a local cache; the first is the one whose keys are reconciled."""
    writes: Sequence[str]
    """Kinds and fields it writes, for example `pods`, `deployments/status`; the runner refuses others."""

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Which keys an event on `obj` concerns (itself, its owner, ...)."""

    async def reconcile(self, key: Key) -> Result:
        """Make the world as the object says. A `StatusError` conflict is retried at once, other errors with back-off."""

"""What a controller is. Built-in controllers use nothing that a user's controller could not.

A controller declares what it reads and what it writes, and reconciles one key at a time. The runner keeps informers for
`reads`, turns events into keys with `keys_for`, never runs one key twice at once, coalesces, and retries. Results are
values. After each `reconcile` the runner waits until the local copies show what it wrote, so that a controller never
decides on a state from before its own last step.

The few controllers whose work is not one key of one kind (the garbage collector's graph spans all kinds) are a
`Background`: one coroutine with the same tools.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from corral.base.clock import Clock
from corral.client.client import Client
from corral.kinds.types import Key, Obj, Resource
from corral.machinery.caches import Caches
from corral.machinery.events import EventRecorder


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


@dataclass(frozen=True, slots=True)
class Tools:
    """What a controller works with; the runner hands it over once, before anything else."""

    client: Client
    """Acts as the controller's own user and refuses what `writes` does not declare."""
    caches: Caches
    """The local copies of what `reads` names, shared between controllers: read-only."""
    events: EventRecorder
    clock: Clock
    rng: random.Random


@runtime_checkable
class Controller(Protocol):
    """One controller. `name` is also the field manager of what it writes and the user it acts as."""

    @property
    def name(self) -> str: ...

    @property
    def reads(self) -> Sequence[Resource]:
        """Kinds to keep in a local cache; the first is the one whose keys are reconciled."""

    @property
    def writes(self) -> Sequence[str]:
        """Kinds and fields it writes, for example `pods`, `deployments/status`; the runner refuses others."""

    def start(self, tools: Tools) -> None:
        """Take the tools; add indexes to the caches. Called once, before the caches are filled."""

    def keys_for(self, resource: Resource, obj: Obj) -> Iterable[Key]:
        """Which keys an event on `obj` concerns (itself, its owner, ...)."""

    async def reconcile(self, key: Key) -> Result:
        """Make the world as the object says.

        A `StatusError` conflict is retried at once, other errors with back-off.
        """


@runtime_checkable
class Selective(Protocol):
    """A controller that need not look again after each update: what it may ignore comes often, and looking is dear."""

    def matters(self, resource: Resource, old: Obj, new: Obj) -> bool:
        """Whether what `reconcile` goes by may differ between two states of one object."""


class Background(Protocol):
    """A controller that is one long-running coroutine."""

    @property
    def name(self) -> str: ...

    @property
    def writes(self) -> Sequence[str]: ...

    async def run(self, tools: Tools) -> None:
        """Work until cancelled."""

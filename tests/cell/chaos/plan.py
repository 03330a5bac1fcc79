"""What breaks when: a seeded plan of faults that the cell promises to bear. Pure.

Every sort of fault comes once before any comes again, on a target drawn among those that may fail just then. What may
fail together is what the cell promises to bear together: a minority of the etcd members, all servers but one (or the
only one), two machines (three silent ones of a small cell are taken for a broken network: decision 0017). Where a seed
is the same, so is the plan.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Sort(StrEnum):
    """What is done to a target, and undone after a while."""

    KILL_MACHINE = "kill machine"
    """As a power cut; then it boots."""
    KILL_AGENT = "kill agent"
    """SIGKILL of the agent alone; then it is started again."""
    FREEZE_AGENT = "freeze agent"
    """SIGSTOP of the agent; then SIGCONT."""
    FREEZE_MACHINE = "freeze machine"
    """All its processes at once, as a hypervisor does; then they go on where they were."""
    PARTITION = "partition machine"
    PARTITION_IN = "partition machine, in"
    """Nothing reaches it; what it sends arrives."""
    PARTITION_OUT = "partition machine, out"
    FILL_DISK = "fill disk"
    """Of a machine: no byte is left on the file system of its data."""
    SHIFT_AGENT_CLOCK = "shift agent clock"
    SHIFT_SERVER_CLOCK = "shift server clock"
    FILL_SERVER_DISK = "fill server disk"
    KILL_SERVER = "kill server"
    FREEZE_SERVER = "freeze server"
    KILL_MEMBER = "kill etcd member"
    FREEZE_MEMBER = "freeze etcd member"
    FILL_MEMBER_DISK = "fill etcd member disk"
    """It ends when it notices; then it is started again."""


SERVER_SORTS: Final = frozenset({Sort.KILL_SERVER, Sort.FREEZE_SERVER, Sort.SHIFT_SERVER_CLOCK, Sort.FILL_SERVER_DISK})
MEMBER_SORTS: Final = frozenset({Sort.KILL_MEMBER, Sort.FREEZE_MEMBER, Sort.FILL_MEMBER_DISK})
MACHINE_SORTS: Final = frozenset(Sort) - SERVER_SORTS - MEMBER_SORTS
TIERS: Final = (MACHINE_SORTS, SERVER_SORTS, MEMBER_SORTS)
SILENCING: Final = frozenset(
    {
        *(Sort.KILL_MACHINE, Sort.KILL_AGENT, Sort.FREEZE_AGENT, Sort.FREEZE_MACHINE),
        *(Sort.PARTITION, Sort.PARTITION_IN, Sort.PARTITION_OUT),
    }
)
"""The server hears no renewal meanwhile."""

_SHORT: Final = (0.5, 3.5)
"""Seconds within which nobody may notice."""
_LONG: Final = (9.0, 16.0)
"""Seconds after which pods have moved."""
_SHIFTS: Final = (-3600.0, -40.0, -7.0, 7.0, 40.0, 3600.0)
"""Seconds by which a clock is wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; times in seconds since the plan began."""

    at: float
    sort: Sort
    target: str
    lasts: float
    shift: float = 0.0
    """Seconds, for clocks."""

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        shift = f" by {self.shift:+.0f} s" if self.shift else ""
        return f"{self.at:6.1f} s: {self.sort} {self.target}{shift} for {self.lasts:.1f} s"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What there is to break."""

    machines: Sequence[str]
    servers: Sequence[str]
    members: Sequence[str]
    sorts: frozenset[Sort] = frozenset(Sort)
    most_machines: int = 2
    """How many may be faulty at once."""
    least_servers: int = 1
    """How many stay well; the only one of a cell may fail too: its agents find its port closed, and go on."""

    def targets(self, sort: Sort) -> Sequence[str]:
        """What `sort` may hit."""
        if sort in MACHINE_SORTS:
            return self.machines
        return self.servers if sort in SERVER_SORTS else self.members

    def most(self, sort: Sort) -> int:
        """How many targets of this tier may be faulty at once."""
        if sort in MACHINE_SORTS:
            return min(self.most_machines, len(self.machines) - 1)
        if sort in SERVER_SORTS:
            return len(self.servers) - self.least_servers
        return (len(self.members) - 1) // 2


def plan(inventory: Inventory, seconds: float, pace: float, rng: random.Random) -> list[Fault]:
    """Faults of which the last has ended after `seconds`, by their beginning; one begins every `pace` seconds or so."""
    faults: list[Fault] = []
    deck: list[Sort] = []
    at = 0.0
    while True:
        if not deck:
            deck = sorted(sort for sort in inventory.sorts if inventory.most(sort) > 0)
            rng.shuffle(deck)
        if not deck or at >= seconds:
            return faults
        fault = _draw(deck[-1], inventory, at, faults, rng)
        if fault is not None and fault.ends <= seconds:
            faults.append(fault)
        if fault is not None:
            deck.pop()
            at = round(at + rng.uniform(0.5, 1.5) * pace, 2)
        else:
            at += 0.5


def _draw(sort: Sort, inventory: Inventory, at: float, faults: Sequence[Fault], rng: random.Random) -> Fault | None:
    """A fault of this sort that may begin now, if any may."""
    faulty = {fault.target for fault in faults if fault.ends > at}
    targets = inventory.targets(sort)
    free = [target for target in targets if target not in faulty]
    if len(targets) - len(free) >= inventory.most(sort):
        return None
    # A full disk is noticed by who needs room, and that takes a while.
    lasting = (MACHINE_SORTS - {Sort.KILL_AGENT}) | {Sort.FILL_SERVER_DISK, Sort.FILL_MEMBER_DISK}
    long = sort in lasting and rng.random() < 2 / 3
    lasts = rng.uniform(*(_LONG if long else _SHORT))
    shifts = sort in (Sort.SHIFT_AGENT_CLOCK, Sort.SHIFT_SERVER_CLOCK)
    return Fault(at, sort, rng.choice(free), round(lasts, 2), rng.choice(_SHIFTS) if shifts else 0.0)

"""Gangs: pods that are placed together or not at all. Pure.

A PodGroup says how many members it takes at least. Once so many have a machine, or have succeeded, each further member
is a pod like any other; as long as there are fewer, those that wait go together.
"""

from dataclasses import dataclass

from corral.kinds.podgroups import GangKey
from corral.kinds.types import Key


@dataclass(frozen=True, slots=True)
class Gang:
    """A group as its waiting members find it."""

    key: GangKey
    minimum: int
    """Members that must have a machine or have succeeded; 0 if nobody has said yet."""
    placed: int = 0
    """Members of which that holds."""

    @property
    def need(self) -> int:
        """So many of those that wait must find a machine, or none does."""
        return self.minimum - self.placed if self.minimum else 1

    def lack(self, waiting: int) -> str:
        """What the gang waits for before any machine is looked at; empty if `waiting` members are enough."""
        if not self.minimum:
            return f"pod group {self.key.name} does not exist"
        missing = self.need - waiting
        return f"pod group {self.key.name} waits for {missing} more of {self.minimum} members" if missing > 0 else ""

    def shortage(self, fitting: int) -> str:
        """What to say when only `fitting` of the waiting members find a machine."""
        return f"pod group {self.key.name}: only {self.placed + fitting} of {self.minimum} members fit"


class GangBook:
    """Which groups there are, and which of their members count. Kept up to date by events."""

    def __init__(self) -> None:
        self._minimums: dict[GangKey, int] = {}
        self._counted: dict[GangKey, set[Key]] = {}

    def copy(self) -> "GangBook":
        """Another one that knows the same."""
        made = GangBook()
        made._minimums = dict(self._minimums)
        made._counted = {key: set(members) for key, members in self._counted.items()}
        return made

    def put(self, key: GangKey, minimum: int | None) -> bool:
        """The group takes `minimum` members now; None: it is gone. Whether that is news."""
        before = self._minimums.get(key)
        if minimum is None:
            self._minimums.pop(key, None)
        else:
            self._minimums[key] = minimum
        return before != minimum

    def see(self, key: GangKey, pod: Key, *, counts: bool) -> bool:
        """The member has a machine or has succeeded, or neither holds (any more). Whether that is news."""
        counted = self._counted.get(key, _NOBODY)
        if (pod in counted) == counts:
            return False
        if counts:
            self._counted.setdefault(key, set()).add(pod)
        else:
            self._counted[key].remove(pod)
            if not self._counted[key]:
                del self._counted[key]
        return True

    def is_missing(self, key: GangKey) -> bool:
        """Whether there is no such group."""
        return key not in self._minimums

    def gang(self, key: GangKey) -> Gang | None:
        """The group as it is now; None if its members are placed one by one."""
        minimum = self._minimums.get(key)
        if minimum == 0:
            return None
        return Gang(key, minimum or 0, len(self._counted.get(key, _NOBODY)))


_NOBODY: frozenset[Key] = frozenset()

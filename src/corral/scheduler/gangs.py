"""Gangs: pods that are placed together or not at all. Pure.

A pod names its group in `spec.schedulingGroup` (Kubernetes 1.36, PodGroup of scheduling.k8s.io) or with the label of
the coscheduling plugin (PodGroup of scheduling.x-k8s.io). The group says how many members it takes at least. What
counts are members that have a machine and those that have succeeded: a member that failed is replaced, one that
succeeded is not missed (Volcano's ReadyTaskNum). Once there are enough, each further member is a pod like any other;
as long as there are not, those that wait go together.
"""

from dataclasses import dataclass
from typing import NamedTuple

from corral.kinds.podspec import phase
from corral.kinds.types import Key, Obj

NATIVE = "scheduling.k8s.io"
COSCHEDULING = "scheduling.x-k8s.io"
LABEL = "scheduling.x-k8s.io/pod-group"


class GangKey(NamedTuple):
    """A PodGroup; the two kinds of that name are told apart by their API group."""

    api_group: str
    namespace: str
    name: str


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


def gang_of(pod: Obj) -> GangKey | None:
    """The group that the pod names, if it names one."""
    metadata = pod["metadata"]
    reference = pod["spec"].get("schedulingGroup")
    if reference and reference.get("podGroupName"):
        return GangKey(NATIVE, metadata["namespace"], reference["podGroupName"])
    name = (metadata.get("labels") or {}).get(LABEL)
    return GangKey(COSCHEDULING, metadata["namespace"], name) if name else None


def minimum_of(group: Obj) -> int:
    """How many members a PodGroup of either kind takes at least; 0 if each is placed on its own."""
    spec = group.get("spec") or {}
    if group["apiVersion"].startswith(NATIVE):
        return int(((spec.get("schedulingPolicy") or {}).get("gang") or {}).get("minCount") or 0)
    return int(spec.get("minMember") or 0)


class GangBook:
    """Which groups there are, and which of their members count. Kept up to date by events."""

    def __init__(self) -> None:
        self._minimums: dict[GangKey, int] = {}
        self._counted: dict[GangKey, set[Key]] = {}

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

    def gang(self, key: GangKey) -> Gang | None:
        """The group as it is now; None if its members are placed one by one."""
        minimum = self._minimums.get(key)
        if minimum == 0:
            return None
        return Gang(key, minimum or 0, len(self._counted.get(key, _NOBODY)))


_NOBODY: frozenset[Key] = frozenset()


def counts(pod: Obj) -> bool:
    """Whether a member that was seen so counts."""
    return phase(pod) == "Succeeded" or (bool(pod["spec"].get("nodeName")) and phase(pod) != "Failed")

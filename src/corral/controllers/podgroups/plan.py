"""What a PodGroup's status says, and which of its members must let go of their machines. Pure.

A gang is half placed when some members have machines, but fewer than it needs. The scheduler never makes one; it comes
about when a binding fails for good, or when members of a running gang are lost. The rest is given the group's time to
find machines. After that the members that have machines are deleted, so that no two gangs wait for each other's room:
their controllers make them anew, and they wait with the others. Lost members that nobody replaces, because their work
has failed for good or because the gang was made smaller, are no reason to end the others.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime

from corral.base.clock import rfc3339
from corral.kinds import conditions
from corral.kinds.podgroups import counts, is_native, minimum_of, timeout_of
from corral.kinds.podspec import is_terminal, phase
from corral.kinds.types import Obj

_SCHEDULED = "PodGroupScheduled"
_AFTER = ("Scheduled", "Running", "Unknown", "Finished", "Failed")
"""Phases of a group that has been placed as a whole."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step of a group."""

    status: Obj
    since: datetime | None = None
    """Since when the gang is half placed, if it is: to be handed to the next `plan`."""
    look_again: float | None = None
    """Seconds after which the time of a half-placed gang is over."""
    release: tuple[Obj, ...] = ()
    """Members to delete."""
    message: str = ""
    """Why."""


@dataclass(frozen=True, slots=True)
class _Members:
    """The members that still matter, and how many there are of each kind."""

    pods: Sequence[Obj]
    waiting: Sequence[Obj]
    placed: Sequence[Obj]
    """Those that have a machine."""
    phases: Mapping[str, int]
    counted: int


def plan(group: Obj, pods: Sequence[Obj], since: datetime | None, now: datetime) -> Plan:
    """The next step of `group`, whose members are `pods`.

    Args:
        since: what the last plan said, if the gang was half placed then.
    """
    members = _sort(pods)
    status = _native(group, members, now) if is_native(group) else _coscheduling(group, members, now)
    if not _is_half_placed(group, members):
        return Plan(status)
    since = since or now
    left = timeout_of(group) - (now - since).total_seconds()
    if left > 0:
        return Plan(status, since, left)
    message = (
        f"only {members.counted} of {minimum_of(group)} members had machines after {timeout_of(group):g} seconds: "
        f"{len(members.placed)} are deleted to make room for others"
    )
    return Plan(status, since, release=tuple(members.placed), message=message)


def _sort(pods: Sequence[Obj]) -> _Members:
    phases = {name: sum(phase(pod) == name for pod in pods) for name in ("Running", "Succeeded", "Failed")}
    alive = [pod for pod in pods if not is_terminal(pod) and not pod["metadata"].get("deletionTimestamp")]
    waiting = [pod for pod in alive if not pod["spec"].get("nodeName")]
    placed = [pod for pod in alive if pod["spec"].get("nodeName")]
    return _Members(pods, waiting, placed, phases, sum(map(counts, pods)))


def _is_half_placed(group: Obj, members: _Members) -> bool:
    if not members.placed or members.counted >= minimum_of(group):
        return False
    return bool(members.waiting) or not _was_whole(group)


def _was_whole(group: Obj) -> bool:
    if is_native(group):
        return conditions.is_true(group, _SCHEDULED)
    return (group.get("status") or {}).get("phase") in _AFTER


def _native(group: Obj, members: _Members, now: datetime) -> Obj:
    """As in Kubernetes 1.36 the condition is about the first placing: once it is true it stays so."""
    made: Obj = {"status": deepcopy(group.get("status") or {})}
    refusals = [found for pod in members.waiting if (found := conditions.get(pod, "PodScheduled")) is not None]
    said = next((found for found in refusals if found.get("reason") == "Unschedulable"), None)
    if members.counted >= max(minimum_of(group), 1):
        conditions.set_condition(made, _SCHEDULED, "True", now=now, reason="Scheduled", message=_count(group, members))
    elif said is not None and not _was_whole(group):
        conditions.set_condition(
            made, _SCHEDULED, "False", now=now, reason="Unschedulable", message=said.get("message") or ""
        )
    return dict(made["status"])


def _count(group: Obj, members: _Members) -> str:
    return f"{members.counted} members have machines, {minimum_of(group)} are needed"


def _coscheduling(group: Obj, members: _Members, now: datetime) -> Obj:
    before: Obj = group.get("status") or {}
    if not members.pods and before.get("phase") in ("Finished", "Failed"):
        return before
    status: Obj = {
        "phase": _phase(group, members),
        "scheduled": members.counted,
        "running": members.phases["Running"],
        "succeeded": members.phases["Succeeded"],
        "failed": members.phases["Failed"],
    }
    started = before.get("scheduleStartTime") or (rfc3339(now) if members.counted else None)
    owner = before.get("occupiedBy") or _owner(members.pods)
    return status | ({"scheduleStartTime": started} if started else {}) | ({"occupiedBy": owner} if owner else {})


def _phase(group: Obj, members: _Members) -> str:
    """The plugin's words: Unknown is a group that was placed and has lost members."""
    minimum = max(minimum_of(group), 1)
    succeeded, running = members.phases["Succeeded"], members.phases["Running"]
    if succeeded >= minimum:
        return "Finished"
    if members.counted >= minimum:
        return "Running" if running + succeeded >= minimum else "Scheduled"
    if members.phases["Failed"] and not members.waiting and not members.placed:
        return "Failed"
    if members.counted:
        return "Unknown" if _was_whole(group) else "Scheduling"
    return "PreScheduling" if len(members.waiting) >= minimum else "Pending"


def _owner(pods: Sequence[Obj]) -> str:
    if not pods:
        return ""
    metadata = pods[0]["metadata"]
    return ",".join(
        sorted(f"{metadata['namespace']}/{owner['name']}" for owner in metadata.get("ownerReferences") or ())
    )

"""What a machine's lease and conditions say about it, and what follows. Pure.

Silence is measured on our own monotonic clock from when we saw the lease change; machines' clocks are not believed.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from corral.base.clock import rfc3339
from corral.controllers.pods.pods import is_deleting
from corral.kinds import conditions
from corral.kinds.health import (
    FENCED,
    SILENCE,
    SILENT_MACHINE,
    SUSPECTED,
    TERMS,
    UNREACHABLE,
    Terms,
    annotation,
    read_promise,
    write_terms,
    yields,
)
from corral.kinds.podspec import is_terminal
from corral.kinds.types import Obj

GRACE_SECONDS: Final = 40.0
"""Silence after which the state of a machine is unknown whose lease does not say (Kubernetes' nodeMonitorGracePeriod of
old; now 50 s there)."""
MARGIN_SECONDS: Final = 0.5
_DRIFT: Final = 0.01
"""By how much two clocks may disagree about how long a second is; real ones are a hundred times better."""
_FEW: Final = 2
"""So many silent machines are never taken for a network split (Kubernetes' partial disruption)."""
_CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURES: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_NOT_READY: Final = "node.kubernetes.io/not-ready"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_OURS: Final = frozenset({_NOT_READY, UNREACHABLE, _UNSCHEDULABLE, *_PRESSURES.values()})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A sign of life: `sign` is what the machine wrote, `at` is when we first saw it, in our own monotonic seconds."""

    sign: str
    at: float
    heard: bool = False
    """Whether the sign has changed since we began to look: the machine lives, it did not only live once."""


def sighting(node: Obj, lease: Obj | None, before: Sighting | None, now: float) -> Sighting:
    """The latest sign of life; clocks of machines are not believed, only that the sign has changed."""
    renewed = ((lease or {}).get("spec") or {}).get("renewTime") or ""
    ready = conditions.get(node, "Ready") or {}
    # What we wrote ourselves, `Unknown`, is no sign.
    beat = ready.get("lastHeartbeatTime", "") if ready.get("status") != "Unknown" else ""
    if before is None:
        return Sighting(f"{renewed} {beat}", now)
    was_renewed, _, was_beat = before.sign.partition(" ")
    if renewed == was_renewed and beat in ("", was_beat):
        return before
    return Sighting(f"{renewed} {beat or was_beat}", now, heard=True)


def forgiven(seen: Sighting, refused: float) -> Sighting:
    """What is known of a machine when writes were refused at `refused`, for want of room: a renewal may have been
    among them, and its sender counts from there."""
    return replace(seen, at=max(seen.at, refused))


def grace_of(lease: Obj | None) -> float:
    """Seconds of silence after which the machine is unknown: what its agent said when it was last heard."""
    return float(((lease or {}).get("spec") or {}).get("leaseDurationSeconds") or GRACE_SECONDS)


def silent_in(seen: Sighting, grace: float, now: float) -> float:
    """Seconds until the machine counts as silent; 0 or less if it does."""
    return seen.at + grace - now


def fenced_in(seen: Sighting, lease: Obj | None, now: float) -> float | None:
    """Seconds until everything that may move is surely dead there; None: never, its agent has promised nothing."""
    promised = read_promise(lease)
    return None if promised is None else seen.at + promised * (1 + _DRIFT) + MARGIN_SECONDS - now


def holds_back(silent: int, machines: int, most: float) -> bool:
    """Whether so many machines are silent at once that it is the network, or we: then nobody is evicted."""
    return silent == machines or (silent > _FEW and silent > most * machines)


def notes(lease: Obj, terms: Terms | None, silence: str) -> Obj | None:
    """The annotations to write on a lease; None if it has them."""
    wanted = {TERMS: write_terms(terms) if terms is not None else "", SILENCE: silence}
    changes = {name: text or None for name, text in wanted.items() if annotation(lease, name) != text}
    return changes or None


def verdict(seen: Sighting, node: Obj, lease: Obj | None, now: float, *, held: bool) -> str:
    """What to say on the lease of a machine: empty while it is heard and says itself how it is."""
    before = annotation(lease, SILENCE)
    if silent_in(seen, grace_of(lease), now) > 0:
        unknown = (conditions.get(node, "Ready") or {}).get("status") == "Unknown"
        return (SUSPECTED if unknown else "") if seen.heard else before
    left = fenced_in(seen, lease, now)
    return FENCED if before == FENCED or (left is not None and left <= 0 and not held) else SUSPECTED


def bury(pods: Iterable[Obj]) -> list[Obj]:
    """Of the pods of a fenced machine, those to take out of the API at once: nobody else will ever end them."""
    return [
        pod
        for pod in pods
        if is_deleting(pod) and yields(pod) and pod["metadata"].get("deletionGracePeriodSeconds") != 0
    ]


def unready(pods: Iterable[Obj], now: datetime) -> list[tuple[Obj, Obj]]:
    """Pods of a silent machine that nobody should be sent to any more, and their statuses that say so."""
    found = []
    for pod in pods:
        if is_terminal(pod) or not conditions.is_true(pod, "Ready"):
            continue
        made: Obj = {"status": deepcopy(pod["status"])}
        words = "the machine is silent"
        conditions.set_condition(made, "Ready", "False", now=now, reason=SILENT_MACHINE, message=words)
        found.append((pod, made["status"]))
    return found


def unknown_status(node: Obj, now: datetime) -> Obj | None:
    """The status of a silent machine; None if it already says so."""
    made: Obj = {"status": deepcopy(node.get("status") or {})}
    changed = False
    for type_ in _CONDITIONS:
        present = conditions.get(made, type_)
        if present is not None and present.get("status") == "Unknown":
            continue
        if present is None and type_ != "Ready":
            continue
        reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        if present is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        changed |= conditions.set_condition(made, type_, "Unknown", now=now, reason=reason, message=message)
    return made["status"] if changed else None


def taints(node: Obj, now: datetime, *, held: bool = False) -> list[Obj] | None:
    """The taints that the machine should have; None if it has them. Taints of others stay.

    `held`: being unreachable ends no pods now.
    """
    present: Sequence[Obj] = (node.get("spec") or {}).get("taints") or ()
    wanted = [pair for pair in _wanted(node) if not (held and pair == (UNREACHABLE, "NoExecute"))]
    kept = [taint for taint in present if taint["key"] not in _OURS or (taint["key"], taint["effect"]) in wanted]
    have = {(taint["key"], taint["effect"]) for taint in kept}
    missing = [pair for pair in wanted if pair not in have]
    if not missing and len(kept) == len(present):
        return None
    added: list[Obj] = [
        {"key": key, "effect": effect, **({"timeAdded": rfc3339(now)} if effect == "NoExecute" else {})}
        for key, effect in missing
    ]
    return [*kept, *added]


def _wanted(node: Obj) -> list[tuple[str, str]]:
    wanted: list[tuple[str, str]] = []
    ready = (conditions.get(node, "Ready") or {}).get("status", "Unknown")
    if ready != "True":
        key = _NOT_READY if ready == "False" else UNREACHABLE
        wanted += [(key, "NoSchedule"), (key, "NoExecute")]
    wanted += [(key, "NoSchedule") for type_, key in _PRESSURES.items() if conditions.is_true(node, type_)]
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((_UNSCHEDULABLE, "NoSchedule"))
    return wanted

"""What a machine's lease and conditions say about it. Pure."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from corral.base.clock import rfc3339
from corral.kinds import conditions
from corral.kinds.types import Obj

GRACE_SECONDS: Final = 40.0
"""Silence after which a machine's state is unknown (Kubernetes' nodeMonitorGracePeriod of old; now 50 s there)."""
_CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_PRESSURES: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_NOT_READY: Final = "node.kubernetes.io/not-ready"
_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_OURS: Final = frozenset({_NOT_READY, _UNREACHABLE, _UNSCHEDULABLE, *_PRESSURES.values()})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A sign of life: `sign` is what the machine wrote, `at` is when we first saw it, by our own clock."""

    sign: str
    at: datetime


def sighting(node: Obj, lease: Obj | None, before: Sighting | None, now: datetime) -> Sighting:
    """The latest sign of life; clocks of machines are not believed, only that the sign has changed."""
    renewed = ((lease or {}).get("spec") or {}).get("renewTime") or ""
    ready = conditions.get(node, "Ready") or {}
    sign = f"{renewed} {ready.get('lastHeartbeatTime', '')}"
    return before if before is not None and before.sign == sign else Sighting(sign, now)


def silent_in(seen: Sighting, grace: float, now: datetime) -> float:
    """Seconds until the machine counts as silent; 0 or less if it does."""
    return (seen.at + timedelta(seconds=grace) - now).total_seconds()


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


def taints(node: Obj, now: datetime) -> list[Obj] | None:
    """The taints that the machine should have; None if it has them. Taints of others stay."""
    present: Sequence[Obj] = (node.get("spec") or {}).get("taints") or ()
    wanted = _wanted(node)
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
        key = _NOT_READY if ready == "False" else _UNREACHABLE
        wanted += [(key, "NoSchedule"), (key, "NoExecute")]
    wanted += [(key, "NoSchedule") for type_, key in _PRESSURES.items() if conditions.is_true(node, type_)]
    if (node.get("spec") or {}).get("unschedulable"):
        wanted.append((_UNSCHEDULABLE, "NoSchedule"))
    return wanted

"""Why a pod is where it is, or nowhere: every rule on every machine, the closest machine, and what would help. Pure.

The answer is plain JSON data: the command line prints it, and whoever wants to may read it over the API.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from corral.base import quantities
from corral.kinds.podspec import phase
from corral.kinds.types import Obj, key_of
from corral.scheduler.filters.devices import Devices
from corral.scheduler.filters.unschedulable import CORDONED
from corral.scheduler.futility import futility
from corral.scheduler.plan import Refuse, refuse
from corral.scheduler.podclass import PodClass
from corral.scheduler.profile import RESOURCES, SPREADING, Profile
from corral.scheduler.snapshot import PODS, Snapshot

_VALUES_SHOWN = 5
MOST_TOLD = 100
"""Machines that a story goes into, those closest to taking the pod: a cell may have many thousands."""
# By a part of the reason, what helps.
_STORAGE = (
    ('" not found', "create the PersistentVolumeClaim, or correct its name in the pod"),
    ("unbound immediate", "see why the claim is not bound: kubectl describe pvc"),
    ("is being deleted", "wait until the claim is gone, then create it again"),
    ("PersistentVolume's node affinity", "make room on the machine that has the volume: kubectl describe pv"),
    (
        "available persistent volumes to bind",
        "add a volume of the claim's class and size, or use a class with a provisioner",
    ),
    ("non-existent p", "the claim's volume is gone: restore it, or delete the claim"),
    ("ReadWriteOncePod", "end the pod that uses the claim, or use an access mode for several pods"),
)
_DEVICES = Devices()


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One machine's answer."""

    row: int
    name: str
    reasons: Sequence[str]
    missing: dict[str, int]
    shortfall: float
    """The largest share of a request that the machine lacks: 0 if resources are no obstacle."""


def explain(
    snapshot: Snapshot, pod: Obj, *, scheduler: str, profile: Profile = SPREADING, nominated: str = "", group: str = ""
) -> Obj:
    """The story of `pod` on the machines of `snapshot`.

    Args:
        scheduler: the name of the one who explains.
        profile: whose rules it goes by.
        nominated: the machine on which room is being made for the pod.
        group: what the pod's gang lacks.

    Returns:
        `pod`, `phase`, `scheduled`, `node`, `message` (the event's words), `group`, `total` (how many machines there
        are), `machines` (`name`, `fits`, `reasons`, `missing` as quantities; no more than MOST_TOLD), `closest` (the
        machine with the fewest and smallest obstacles, or None), `hints` (likely mistakes) and `would_help` (what to
        change).

    Raises:
        ValueError, StatusError: the pod asks for something that makes no sense.
    """
    key, spec = key_of(pod), pod.get("spec") or {}
    node = spec.get("nodeName") or snapshot.node_of(key)
    story: Obj = {
        "pod": str(key),
        "phase": phase(pod),
        "scheduled": bool(node),
        "node": node,
        "message": "",
        "group": group,
        "total": len(snapshot),
        "machines": [],
        "closest": None,
        "hints": [],
        "would_help": [],
    }
    if node:
        story["message"] = f"assigned to {node}"
        return story
    held = _held_back(pod, scheduler)
    if nominated:
        held.append(f"less important pods are being ended on {nominated} to make room for this one")
    pod_class = snapshot.classify(pod)
    told = (_judge(snapshot, pod_class, int(row), profile) for row in _nearest(snapshot, pod_class, profile))
    verdicts = sorted(told, key=lambda verdict: verdict.name)
    story["machines"] = [_machine(verdict) for verdict in verdicts]
    fits = any(not verdict.reasons for verdict in verdicts)
    story["hints"] = [*(() if fits else held), *_hints(snapshot, pod_class)]
    if fits:
        story["message"] = group or (held[0] if held else "the pod is about to be assigned")
        return story
    refusal: Refuse = refuse(snapshot, key, pod_class, profile)
    if not nominated:
        refusal = replace(refusal, preemption=futility(snapshot, pod_class, profile))
    story["message"] = group or refusal.message
    if verdicts:
        closest = min(verdicts, key=_distance)
        story["closest"] = _machine(closest)
        story["would_help"] = _remedies(snapshot, pod_class, closest)
    else:
        story["would_help"] = ["add a machine to the cell"]
    return story


def _held_back(pod: Obj, scheduler: str) -> list[str]:
    spec = pod.get("spec") or {}
    found: list[str] = []
    gates = [gate.get("name", "") for gate in spec.get("schedulingGates") or ()]
    if gates:
        found.append(f"the pod waits for its scheduling gates to be removed: {', '.join(gates)}")
    if (spec.get("schedulerName") or scheduler) != scheduler:
        found.append(f"the pod asks for the scheduler {spec['schedulerName']!r}; this is {scheduler!r}")
    if pod["metadata"].get("deletionTimestamp"):
        found.append("the pod is being deleted")
    return found


def _nearest(snapshot: Snapshot, pod: PodClass, profile: Profile) -> NDArray[np.intp]:
    """The rows that are closest to taking the pod, in the order of `_distance`, as far as that can be told at once."""
    others = np.zeros(len(snapshot.alive), dtype=np.int64)
    for rule in profile.filters:
        mask = rule.passes(snapshot, pod) if rule is not RESOURCES else None
        if mask is not None:
            others += ~mask
    lacks = snapshot.requested[:, pod.columns] + pod.amounts - snapshot.allocatable[:, pod.columns]
    obstacles, shortfall = others + (lacks > 0).sum(axis=1), (lacks / pod.amounts).max(axis=1)
    rows = np.flatnonzero(snapshot.alive)
    return rows[np.lexsort((shortfall[rows], others[rows], obstacles[rows]))[:MOST_TOLD]]


def _judge(snapshot: Snapshot, pod: PodClass, row: int, profile: Profile) -> _Verdict:
    reasons = [reason for rule in profile.filters for reason in rule.explain(snapshot, pod, row)]
    missing = {**_DEVICES.missing(snapshot, pod, row), **RESOURCES.missing(snapshot, pod, row)}
    shortfall = max((lack / pod.requests[name] for name, lack in missing.items()), default=0.0)
    return _Verdict(row, snapshot.machine(row).name, reasons, missing, shortfall)


def _distance(verdict: _Verdict) -> tuple[int, int, float, str]:
    # Room may come by itself; a taint or a label will not.
    return len(verdict.reasons), len(verdict.reasons) - len(verdict.missing), verdict.shortfall, verdict.name


def _machine(verdict: _Verdict) -> Obj:
    return {
        "name": verdict.name,
        "fits": not verdict.reasons,
        "reasons": list(verdict.reasons),
        "missing": {name: amount_text(name, lack) for name, lack in verdict.missing.items()},
    }


def amount_text(resource: str, amount: int) -> str:
    """An amount in the units of `pod_requests` as a quantity."""
    if resource == "cpu":
        return quantities.format_milli(amount)
    if resource in ("memory", "ephemeral-storage") or resource.startswith("hugepages-"):
        return quantities.format_bytes(amount)
    return str(amount)


def _hints(snapshot: Snapshot, pod: PodClass) -> list[str]:
    """Label keys and values, taint keys and resources that no machine has but one that looks alike."""
    found: list[str] = []
    if not len(snapshot):
        return found
    wanted = [(key, [value]) for key, value in pod.node_selector]
    for on_labels, _ in pod.affinity.terms if pod.affinity is not None else ():
        wanted += [(need.key, sorted(need.values)) for need in on_labels if need.operator in ("In", "Exists")]
    for key, texts in wanted:
        found += _label_hints(snapshot, key, texts)
    sets = (snapshot.taint_sets[number] for number in np.unique(snapshot.taints[snapshot.alive]))
    taints = {taint.key for taints in sets for taint in taints}
    for toleration in pod.tolerations:
        # Every pod tolerates some of Kubernetes' own taints: these are no spelling mistakes.
        if toleration.key and toleration.key not in taints and not toleration.key.startswith("node.kubernetes.io/"):
            found += [
                f"no machine has the taint {toleration.key!r}: did you mean {alike!r}?"
                for alike in _alike(toleration.key, taints)
            ]
    for name in pod.requests:
        if name != PODS and not snapshot.allocatable[snapshot.alive, snapshot.columns[name]].any():
            offered = [other for other, column in snapshot.columns.items() if snapshot.allocatable[:, column].any()]
            meant = "".join(f": did you mean {alike!r}?" for alike in _alike(name, offered))
            found.append(f"no machine offers the resource {name!r}{meant}")
    return found


def _label_hints(snapshot: Snapshot, key: str, wanted: Sequence[str]) -> list[str]:
    present = snapshot.labels.values(key, snapshot.alive)
    if not present:
        meant = "".join(f": did you mean {alike!r}?" for alike in _alike(key, snapshot.labels.keys(snapshot.alive)))
        return [f"no machine has the label {key!r}{meant}"]
    if not wanted or present.intersection(wanted):
        return []
    alike = [other for text in wanted for other in _alike(text, present)]
    if alike:
        return [f"no machine has {key}={wanted[0]}: did you mean {alike[0]!r}?"]
    shown = ", ".join(sorted(present)[:_VALUES_SHOWN]) + (", ..." if len(present) > _VALUES_SHOWN else "")
    return [f"no machine has {key}={wanted[0]}; there are: {shown}"]


def _alike(text: str, known: Iterable[str]) -> list[str]:
    """The known text most like `text`, if one is."""
    return difflib.get_close_matches(text, list(known), n=1, cutoff=0.75)


def _remedies(snapshot: Snapshot, pod: PodClass, closest: _Verdict) -> list[str]:
    """What would let the pod in: on the closest machine, and for requests that no machine could ever meet."""
    found: list[str] = []
    for name, lack in closest.missing.items():
        amount, column = pod.requests[name], snapshot.columns[name]
        largest = int(snapshot.allocatable[snapshot.alive, column].max())
        if name == PODS:
            found.append(f"end a pod on {closest.name}: it may have no more")
        elif amount > largest:
            found.append(
                f"ask for at most {amount_text(name, largest)} of {name} (no machine has more), or add a machine with "
                f"{amount_text(name, amount)}"
            )
        elif amount > snapshot.allocatable[closest.row, column]:
            found.append(
                f"ask for {amount_text(name, lack)} less of {name}: {closest.name} is too small even when empty"
            )
        else:
            found.append(f"free {amount_text(name, lack)} of {name} on {closest.name}, or ask for that much less")
    machine = snapshot.machine(closest.row)
    texts = " ".join(closest.reasons)
    if "unschedulable" in texts:
        found.append(f"let {closest.name} take pods again: kubectl uncordon {closest.name}")
    if "untolerated taint" in texts:
        # Uncordoning, which is said already, removes the taint that goes with being cordoned.
        keeping = [str(taint) for taint in machine.taints if not pod.tolerates(taint) and taint != CORDONED]
        if keeping:
            found.append(f"tolerate the taints of {closest.name} ({', '.join(keeping)}) in the pod, or remove them")
    if "affinity/selector" in texts:
        found.append(f"change the pod's node selector or affinity, or give {closest.name} the labels that it asks for")
    if "free ports" in texts:
        ports = ", ".join(f"{port.protocol} {port.port}" for port in pod.ports)
        found.append(f"use other host ports than {ports}, or end the pod that has them on {closest.name}")
    found += [text for part, text in _STORAGE if part in texts]
    if "pod affinity rules" in texts:
        keys = ", ".join(tie.key for tie in pod.peers.attracted)
        found.append(f"start a pod that the pod's affinity chooses on a machine that shares {keys} with {closest.name}")
    if "anti-affinity rules" in texts:
        found.append(
            "add a machine in another domain of the anti-affinity's topology key, or end the pods near "
            f"{closest.name} that do not go together with this one"
        )
    if "missing required label" in texts:
        keys = ", ".join(dict.fromkeys(constraint.tie.key for constraint in pod.peers.spread))
        found.append(f"give {closest.name} the labels that the spread constraints are about: {keys}")
    elif "topology spread" in texts:
        keys = ", ".join(dict.fromkeys(constraint.tie.key for constraint in pod.peers.spread))
        found.append(
            f"make room in the emptiest domains of {keys}, raise maxSkew, or say whenUnsatisfiable: ScheduleAnyway"
        )
    return found

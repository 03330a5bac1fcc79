"""Workload objects: made from what waits, and the conditions they go through. Pure; each step returns a new status.

Conditions, reasons and messages are Kueue's (apis/kueue/v1beta2/workload_types.go, pkg/workload).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Final

from corral.base.clock import parse_rfc3339, rfc3339
from corral.batch.model import Admit, text
from corral.batch.views import SERIAL
from corral.kinds import conditions
from corral.kinds.bundled.queues import QUEUE_LABEL
from corral.kinds.owners import controller_reference, owner_reference
from corral.kinds.types import Obj

PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
API_VERSION: Final = "kueue.x-k8s.io/v1beta2"
_LONGEST_WAIT: Final = 60.0
_PREEMPTED = {
    "InClusterQueue": "prioritization in the ClusterQueue",
    "InCohortReclamation": "reclamation within the cohort",
    "InCohortFairSharing": "Fair Sharing within the cohort",
    "InCohortReclaimWhileBorrowing": "reclamation within the cohort while borrowing",
}


def name_for(kind: str, name: str, uid: str) -> str:
    """A Workload's name: the kind, the owner's name, and a suffix that tells owners of the same name apart."""
    digest = hashlib.sha256(f"{kind}/{uid}".encode()).hexdigest()[:5]
    return f"{kind.lower()}-{name[: 253 - len(kind) - 7]}-{digest}"


def new_workload(
    name: str,
    owners: Sequence[Obj],
    queue: str,
    pod_sets: Sequence[Obj],
    priority: tuple[int, Obj | None],
) -> Obj:
    """The Workload of `owners` (one, as its controller, or a group's pods). `priority` comes with its class, if any."""
    first = owners[0]["metadata"]
    value, reference = priority
    spec: Obj = {"podSets": list(pod_sets), "queueName": queue, "priority": value, "active": True}
    if reference is not None:
        spec["priorityClassRef"] = reference
    references = [controller_reference(owners[0])] if len(owners) == 1 else [owner_reference(obj) for obj in owners]
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": {
            "name": name,
            "namespace": first["namespace"],
            "labels": {QUEUE_LABEL: queue},
            # Revisions rise with every object made in the cell, so this is the order in which owners came.
            "annotations": {SERIAL: first["resourceVersion"]},
            "ownerReferences": references,
        },
        "spec": spec,
    }


def priority_of(
    owner: Obj,
    template_spec: Mapping[str, str],
    workload_classes: Callable[[str], Obj | None],
    pod_classes: Sequence[Obj],
) -> tuple[int, Obj | None]:
    """The priority of what waits, with a reference to where it comes from: the WorkloadPriorityClass that its label
    names, else its pods' PriorityClass, else the default one.

    Raises:
        LookupError: it names a class that does not exist.
    """
    name = (owner["metadata"].get("labels") or {}).get(PRIORITY_LABEL)
    if name:
        found = workload_classes(name)
        if found is None:
            raise LookupError(f"WorkloadPriorityClass {name} does not exist: create it, or correct {PRIORITY_LABEL}")
        return int(found["value"]), {"group": "kueue.x-k8s.io", "kind": "WorkloadPriorityClass", "name": name}
    name = template_spec.get("priorityClassName")
    chosen = [one for one in pod_classes if (one["metadata"]["name"] == name if name else one.get("globalDefault"))]
    if not chosen:
        if name:
            raise LookupError(f"PriorityClass {name} does not exist: create it, or correct priorityClassName")
        return 0, None
    lowest = min(chosen, key=lambda one: int(one.get("value") or 0))
    reference = {"group": "scheduling.k8s.io", "kind": "PriorityClass", "name": lowest["metadata"]["name"]}
    return int(lowest.get("value") or 0), reference


def _changed(workload: Obj) -> Obj:
    return {"status": deepcopy(workload.get("status") or {}), "metadata": workload["metadata"]}


def _set(carrier: Obj, kind: str, status: str, reason: str, message: str, now: datetime) -> None:
    generation = carrier["metadata"].get("generation")
    conditions.set_condition(
        carrier, kind, status, now=now, reason=reason, message=message[:32000], observedGeneration=generation
    )


def _status(carrier: Obj) -> Obj:
    status: Obj = carrier["status"]
    return status


def reserved(workload: Obj, decision: Admit, now: datetime) -> Obj:
    """With the quota that was decided on; without admission checks it is admitted by that."""
    carrier = _changed(workload)
    queue = decision.queue
    carrier["status"]["admission"] = {
        "clusterQueue": queue,
        "podSetAssignments": [
            {
                "name": pods.name,
                "count": pods.count,
                "flavors": dict(pods.flavors),
                "resourceUsage": {name: text(name, used) for name, used in pods.usage.items()},
            }
            for pods in decision.pod_sets
        ],
    }
    carrier["status"].pop("resourceRequests", None)
    _set(carrier, "QuotaReserved", "True", "QuotaReserved", f"Quota reserved in ClusterQueue {queue}", now)
    _set(carrier, "Admitted", "True", "Admitted", "The workload is admitted", now)
    for kind in ("Evicted", "Preempted"):
        if conditions.is_true(carrier, kind):
            why = f"Previously: {(conditions.get(carrier, kind) or {}).get('message', '')}"
            _set(carrier, kind, "False", "QuotaReserved", why, now)
    return _status(carrier)


def preemption_words(by: Obj, reason: str) -> str:
    """What a Workload is told that must stop for the Workload `by`."""
    return f"Preempted to accommodate a workload (UID: {by['metadata']['uid']}) due to {_PREEMPTED[reason]}"


def preempted(workload: Obj, by: Obj, reason: str, now: datetime) -> Obj:
    """Told to stop, for the Workload `by`."""
    carrier = _changed(workload)
    why = preemption_words(by, reason)
    _set(carrier, "Evicted", "True", "Preempted", why, now)
    _set(carrier, "Preempted", "True", reason, why, now)
    return _status(carrier)


def evicted(workload: Obj, reason: str, message: str, now: datetime) -> Obj:
    """Told to stop."""
    carrier = _changed(workload)
    _set(carrier, "Evicted", "True", reason, message, now)
    return _status(carrier)


def released(workload: Obj, now: datetime) -> Obj:
    """Stopped: without quota, and back in its queue; one that is preempted again and again waits longer each time."""
    carrier = _changed(workload)
    status = carrier["status"]
    cause = conditions.get(workload, "Evicted") or {}
    status.pop("admission", None)
    status.pop("reclaimablePods", None)
    _set(carrier, "QuotaReserved", "False", "Pending", cause.get("message") or "The workload was stopped", now)
    _set(carrier, "Admitted", "False", "NoReservation", "The workload has no reservation", now)
    admitted = conditions.get(workload, "Admitted") or {}
    if admitted.get("status") == "True":
        ran = max(0, int((now - parse_rfc3339(admitted["lastTransitionTime"])).total_seconds()))
        past = "accumulatedPastExecutionTimeSeconds"
        status[past] = int(status.get(past) or 0) + ran
    if cause.get("reason") == "Preempted":
        count = int((status.get("requeueState") or {}).get("count") or 0) + 1
        # The first time it keeps its turn.
        wait = min(_LONGEST_WAIT, 2.0 ** min(count - 2, 10)) if count > 1 else 0.0
        status["requeueState"] = {"count": count, "requeueAt": rfc3339(now + timedelta(seconds=wait))}
    _set(carrier, "Requeued", "True", cause.get("reason") or "Pending", cause.get("message") or "Requeued", now)
    return _status(carrier)


def pending(workload: Obj, reason: str, message: str, now: datetime) -> Obj:
    """Without quota, and why: `reason` is Pending or Inadmissible."""
    carrier = _changed(workload)
    _set(carrier, "QuotaReserved", "False", reason, message, now)
    return _status(carrier)


def finished(workload: Obj, reason: str, message: str, now: datetime) -> Obj:
    """Ended for good: `reason` is Succeeded or Failed."""
    carrier = _changed(workload)
    _set(carrier, "Finished", "True", reason, message, now)
    return _status(carrier)


def reclaimable(workload: Obj, ended: Mapping[str, int]) -> Obj:
    """With the number of pods in each pod set whose quota is not needed any more."""
    status = deepcopy(workload.get("status") or {})
    if ended:
        status["reclaimablePods"] = [{"name": name, "count": count} for name, count in ended.items()]
    return status


def bind_template(spec: Obj, assignment: Obj, flavors: Mapping[str, Obj]) -> Obj:
    """A pod spec for the flavors it was given: their labels as node selector, their tolerations added."""
    selector = dict(spec.get("nodeSelector") or {})
    tolerations = list(spec.get("tolerations") or ())
    for name in dict.fromkeys((assignment.get("flavors") or {}).values()):
        flavor = (flavors[name].get("spec") or {}) if name in flavors else {}
        selector |= flavor.get("nodeLabels") or {}
        tolerations += [one for one in flavor.get("tolerations") or () if one not in tolerations]
    bound = dict(spec)
    if selector:
        bound["nodeSelector"] = selector
    if tolerations:
        bound["tolerations"] = tolerations
    return bound

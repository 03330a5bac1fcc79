"""From the API's objects to what admission decides from. Pure.

What this cell does not do closes a queue instead of being passed over in silence: admission checks and topologies do
not exist here, so a queue that names one is inactive, with the reason and the words that Kueue has for that.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from corral.base.clock import parse_rfc3339
from corral.base.quantities import parse
from corral.batch.model import (
    Cohort,
    Flavor,
    FlavorResource,
    Group,
    Holding,
    Place,
    PodSet,
    Preemption,
    Queue,
    Quota,
    State,
    Waiting,
)
from corral.kinds import conditions
from corral.kinds.podspec import amount, pod_requests
from corral.kinds.selectors import LabelSelector, NodeSelector
from corral.kinds.status import StatusError
from corral.kinds.taints import read_taints, read_tolerations
from corral.kinds.types import Key, Obj, key_of

SERIAL: Final = "corral.dev/serial"
"""Annotation of a Workload: orders those that were created in the same second."""

_PREEMPTOR: Final = re.compile(r"\(UID: ([^),]+)")


class Closed(NamedTuple):
    """Why a queue admits nothing: a condition's reason and message."""

    reason: str
    message: str


class Objects(NamedTuple):
    """The collections that admission reads."""

    flavors: Iterable[Obj]
    cohorts: Iterable[Obj]
    cluster_queues: Iterable[Obj]
    local_queues: Iterable[Obj]
    namespaces: Iterable[Obj]
    workloads: Iterable[Obj]


def read_flavor(obj: Obj) -> Flavor:
    """A ResourceFlavor."""
    spec = obj.get("spec") or {}
    return Flavor(
        obj["metadata"]["name"],
        spec.get("nodeLabels") or {},
        read_taints({"spec": {"taints": spec.get("nodeTaints")}}),
        read_tolerations(spec),
    )


def read_cohort(obj: Obj) -> Cohort:
    """A Cohort."""
    spec = obj.get("spec") or {}
    return Cohort(obj["metadata"]["name"], spec.get("parentName") or "", _quotas(spec), _weight(spec))


def read_queue(obj: Obj, flavors: Mapping[str, Obj]) -> Queue:
    """A ClusterQueue; `flavors` are the ResourceFlavors that exist, by name."""
    spec = obj.get("spec") or {}
    preemption, fungibility = spec.get("preemption") or {}, spec.get("flavorFungibility") or {}
    borrowing = preemption.get("borrowWithinCohort") or {}
    why = closed(obj, flavors)
    return Queue(
        obj["metadata"]["name"],
        tuple(
            Group(tuple(group["coveredResources"]), tuple(flavor["name"] for flavor in group["flavors"]))
            for group in spec.get("resourceGroups") or ()
        ),
        _quotas(spec),
        spec.get("cohortName") or "",
        spec.get("queueingStrategy") == "StrictFIFO",
        Preemption(
            preemption.get("withinClusterQueue") or "Never",
            preemption.get("reclaimWithinCohort") or "Never",
            borrowing.get("policy") == "LowerPriority",
            borrowing.get("maxPriorityThreshold"),
        ),
        fungibility.get("whenCanBorrow") != "TryNextFlavor",
        fungibility.get("whenCanPreempt") == "MayStopSearch",
        fungibility.get("preference") == "PreemptionOverBorrowing",
        _weight(spec),
        why.message if why else "",
    )


def closed(obj: Obj, flavors: Mapping[str, Obj]) -> Closed | None:
    """Why a ClusterQueue admits nothing, None if it does."""
    spec = obj.get("spec") or {}
    named = [flavor["name"] for group in spec.get("resourceGroups") or () for flavor in group["flavors"]]
    missing = sorted({name for name in named if name not in flavors})
    checks = ((spec.get("admissionChecksStrategy") or {}).get("admissionChecks")) or ()
    flat = [name for name in named if name in flavors and (flavors[name].get("spec") or {}).get("topologyName")]
    if obj["metadata"].get("deletionTimestamp"):
        return Closed("Terminating", "Can't admit new workloads; clusterQueue is terminating")
    if is_stopped(obj):
        return Closed("Stopped", "Can't admit new workloads: is stopped.")
    if missing:
        return Closed("FlavorNotFound", f"Can't admit new workloads: references missing ResourceFlavor(s): {missing}.")
    if checks:
        names = [check["name"] for check in checks]
        why = f"references missing AdmissionCheck(s): {names}: this cell has no admission checks."
        return Closed("AdmissionCheckNotFound", f"Can't admit new workloads: {why}")
    if flat:
        why = f"references ResourceFlavor(s) with a topology: {flat}: this cell has no Topology objects."
        return Closed("TopologyNotFound", f"Can't admit new workloads: {why}")
    return None


def is_stopped(queue: Obj) -> bool:
    """Whether a ClusterQueue or LocalQueue admits nothing because it is told so."""
    return ((queue.get("spec") or {}).get("stopPolicy") or "None") != "None"


def drains(queue: Obj) -> bool:
    """Whether what a queue has admitted must stop, too."""
    return (queue.get("spec") or {}).get("stopPolicy") == "HoldAndDrain"


def _quotas(spec: Obj) -> dict[FlavorResource, Quota]:
    found = {}
    for group in spec.get("resourceGroups") or ():
        for flavor in group["flavors"]:
            for quota in flavor["resources"]:
                name = quota["name"]
                limits = (quota.get(limit) for limit in ("borrowingLimit", "lendingLimit"))
                bounds = (None if limit is None else amount(name, limit) for limit in limits)
                found[FlavorResource(flavor["name"], name)] = Quota(amount(name, quota["nominalQuota"]), *bounds)
    return found


def _weight(spec: Obj) -> float:
    weight = (spec.get("fairSharing") or {}).get("weight")
    return 1.0 if weight is None else parse(weight).nanos / 1e9


def priority_of(workload: Obj) -> int:
    """A Workload's priority."""
    return int(workload["spec"].get("priority") or 0)


def place_of(workload: Obj) -> Place:
    """Where a Workload stands in its queue."""
    metadata = workload["metadata"]
    serial = (metadata.get("annotations") or {}).get(SERIAL, "")
    created = metadata.get("creationTimestamp", "")
    return Place(-priority_of(workload), created, int(serial) if serial.isdecimal() else 0, key_of(workload))


def is_finished(workload: Obj) -> bool:
    """Whether a Workload has ended for good."""
    return conditions.is_true(workload, "Finished")


def is_reserving(workload: Obj) -> bool:
    """Whether a Workload holds quota."""
    return not is_finished(workload) and conditions.is_true(workload, "QuotaReserved") and _admission(workload) != {}


def is_admitted(workload: Obj) -> bool:
    """Whether a Workload may run."""
    return is_reserving(workload) and conditions.is_true(workload, "Admitted") and not is_evicted(workload)


def is_evicted(workload: Obj) -> bool:
    """Whether a Workload must stop, or did so and has not got quota again."""
    return conditions.is_true(workload, "Evicted")


def _admission(workload: Obj) -> Obj:
    return (workload.get("status") or {}).get("admission") or {}


def queue_of(workload: Obj) -> str:
    """The ClusterQueue whose quota a Workload holds."""
    return str(_admission(workload).get("clusterQueue") or "")


def usage_of(workload: Obj) -> dict[FlavorResource, int]:
    """The quota that a Workload holds: what it was given, less the part of pods that have ended."""
    found: dict[FlavorResource, int] = {}
    ended = {entry["name"]: entry["count"] for entry in (workload.get("status") or {}).get("reclaimablePods") or ()}
    for pods in _admission(workload).get("podSetAssignments") or ():
        flavors, count = pods.get("flavors") or {}, pods.get("count") or 0
        left = max(0, count - ended.get(pods.get("name", "main"), 0))
        for name, quantity in (pods.get("resourceUsage") or {}).items():
            if name in flavors and count:
                place = FlavorResource(flavors[name], name)
                # Requests are per pod, so this divides without a rest.
                found[place] = found.get(place, 0) + amount(name, quantity) * left // count
    return found


def read_holding(workload: Obj) -> Holding:
    """A Workload that holds quota."""
    reserved = (conditions.get(workload, "QuotaReserved") or {}).get("lastTransitionTime", "")
    return Holding(
        key_of(workload),
        queue_of(workload),
        place_of(workload),
        usage_of(workload),
        reserved,
        is_evicted(workload),
    )


def read_pod_set(obj: Obj) -> PodSet:
    """A pod set; its template's requests are counted as the scheduler counts a pod's."""
    template = obj.get("template") or {}
    spec = template.get("spec") or {}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return PodSet(
        obj.get("name") or "main",
        obj.get("count", 1),
        # Parts of a GPU are asked for by an annotation.
        pod_requests({"metadata": template.get("metadata") or {}, "spec": spec}),
        spec.get("nodeSelector") or {},
        NodeSelector.from_object(required) if required else None,
        read_tolerations(spec),
    )


def read_waiting(workload: Obj, queue: str, why: str = "", *, first: bool = False) -> Waiting:
    """A Workload that waits in the ClusterQueue `queue`; `why` keeps it from being considered."""
    at = ((workload.get("status") or {}).get("requeueState") or {}).get("requeueAt")
    spec = workload["spec"]
    pod_sets = tuple(read_pod_set(pod_set) for pod_set in spec["podSets"])
    return Waiting(
        key_of(workload),
        workload["metadata"]["uid"],
        queue,
        place_of(workload),
        pod_sets,
        why,
        parse_rfc3339(at) if at else None,
        first,
        repr(pod_sets),
    )


def _waiting(workload: Obj, queue: str, why: str, first: bool) -> Waiting:
    """As `read_waiting`; a Workload that cannot be read must not keep the others from being admitted."""
    try:
        return read_waiting(workload, queue, why, first=first)
    except (ValueError, TypeError, KeyError, StatusError) as error:
        words = f"The workload cannot be read: {error}"
        return Waiting(key_of(workload), workload["metadata"]["uid"], queue, place_of(workload), (), words)


def _selector(queue: Obj) -> LabelSelector:
    try:
        return LabelSelector.from_object((queue.get("spec") or {}).get("namespaceSelector"))
    except StatusError:
        return LabelSelector(nothing=True)


def _since(workload: Obj, kind: str) -> str:
    return str((conditions.get(workload, kind) or {}).get("lastTransitionTime") or "")


def _preemptors(workloads: Iterable[Obj]) -> dict[str, str]:
    """The uids of those for whom others were last preempted and have not come back, and when that was. Whoever has had
    quota since then has got what it was done for."""
    found: dict[str, str] = {}
    for workload in workloads:
        if len((workload.get("status") or {}).get("conditions") or ()) < 2:
            continue  # One that only waits has one at the most: most do.
        if is_evicted(workload) and conditions.is_true(workload, "Preempted"):
            named = _PREEMPTOR.search((conditions.get(workload, "Preempted") or {}).get("message") or "")
            if named is not None:
                found[named[1]] = max(found.get(named[1], ""), _since(workload, "Preempted"))
    return found


@dataclass(slots=True)
class Read:
    """What was read of one Workload object; a look finds most objects as the last one left them."""

    obj: Obj
    finished: bool
    value: Waiting | Holding | None = None


class World:
    """The objects, joined: which ClusterQueue a Workload waits in, and what keeps it from being considered.

    Reading a Workload costs more than all the rest, and few change between two looks: `known` keeps what was read, by
    uid, and is brought up to date.
    """

    def __init__(self, objects: Objects, known: dict[str, Read] | None = None) -> None:
        self.flavors = {obj["metadata"]["name"]: obj for obj in objects.flavors}
        self.cluster_queues = {obj["metadata"]["name"]: obj for obj in objects.cluster_queues}
        self.local_queues = {key_of(obj): obj for obj in objects.local_queues}
        self.workloads: list[Obj] = []
        """Those that are not finished."""
        self.reserving: list[Obj] = []
        """Those of them that hold quota."""
        self.finished: list[Obj] = []
        self._namespaces = {obj["metadata"]["name"]: obj["metadata"].get("labels") or {} for obj in objects.namespaces}
        self._closed = {name: closed(obj, self.flavors) for name, obj in self.cluster_queues.items()}
        self._selectors = {name: _selector(obj) for name, obj in self.cluster_queues.items()}
        self._places: dict[tuple[str, str, object], tuple[str, str]] = {}
        self._known = known if known is not None else {}
        self._sort(objects.workloads)
        self.state = State(
            {name: read_flavor(obj) for name, obj in self.flavors.items()},
            tuple(read_cohort(obj) for obj in objects.cohorts),
            tuple(read_queue(obj, self.flavors) for obj in self.cluster_queues.values()),
            *self._read(),
        )

    def _sort(self, objects: Iterable[Obj]) -> None:
        """Tell finished Workloads from the others, and forget those that are gone."""
        kept: dict[str, Read] = {}
        for obj in objects:
            uid = obj["metadata"]["uid"]
            read = self._known.get(uid)
            if read is None or read.obj is not obj:
                read = Read(obj, is_finished(obj))
            kept[uid] = read
            (self.finished if read.finished else self.workloads).append(obj)
        self._known.clear()
        self._known.update(kept)

    def _read(self) -> tuple[tuple[Waiting, ...], tuple[Holding, ...]]:
        waiting: list[Waiting] = []
        holding: list[Holding] = []
        preemptors: dict[str, str] | None = None
        for workload in self.workloads:
            read = self._known[workload["metadata"]["uid"]]
            if isinstance(read.value, Holding) or (read.value is None and is_reserving(workload)):
                if read.value is None:
                    read.value = read_holding(workload)
                assert isinstance(read.value, Holding)
                holding.append(read.value)
                self.reserving.append(workload)
                continue
            if preemptors is None:
                preemptors = _preemptors(self.workloads)
            queue, why = self.where(workload)
            since = preemptors.get(workload["metadata"]["uid"])
            first = not why and since is not None and _since(workload, "QuotaReserved") <= since
            found = read.value
            if found is None or (found.queue, found.closed, found.first) != (queue, why, first):
                read.value = found = _waiting(workload, queue, why, first)
            waiting.append(found)
        return tuple(waiting), tuple(holding)

    def closed(self, queue: str) -> Closed | None:
        """Why a ClusterQueue that exists admits nothing."""
        return self._closed[queue]

    def where(self, workload: Obj) -> tuple[str, str]:
        """The ClusterQueue that a Workload waits in, and what keeps it from being considered; in Kueue's words."""
        spec = workload["spec"]
        key = (workload["metadata"]["namespace"], spec.get("queueName") or "", spec.get("active"))
        found = self._places.get(key)
        if found is None:
            found = self._places[key] = self._place(*key)
        return found

    def _place(self, namespace: str, name: str, active: object) -> tuple[str, str]:
        local = self.local_queues.get(Key(namespace, name))
        if local is None:
            return "", f"LocalQueue {name} doesn't exist"
        queue = (local.get("spec") or {}).get("clusterQueue") or ""
        if active is False:
            return queue, "The workload is deactivated"
        if is_stopped(local):
            return queue, f"LocalQueue {name} is inactive"
        if queue not in self.cluster_queues:
            return queue, f"ClusterQueue {queue} doesn't exist"
        if self._closed[queue] is not None:
            return queue, f"ClusterQueue {queue} is inactive"
        if not self._selectors[queue].matches(self._namespaces.get(namespace, {})):
            return queue, "Workload namespace doesn't match ClusterQueue selector"
        return queue, ""

    def must_stop(self, workload: Obj) -> Closed | None:
        """Why a Workload that holds quota must give it up although nobody preempts it."""
        spec, metadata = workload["spec"], workload["metadata"]
        if spec.get("active") is False:
            return Closed("Deactivated", "The workload is deactivated")
        local = self.local_queues.get(Key(metadata["namespace"], spec.get("queueName") or ""))
        if local is not None and drains(local):
            return Closed("LocalQueueStopped", "The LocalQueue is stopped")
        queue = self.cluster_queues.get(queue_of(workload))
        if queue is not None and drains(queue):
            return Closed("ClusterQueueStopped", "The ClusterQueue is stopped")
        return None

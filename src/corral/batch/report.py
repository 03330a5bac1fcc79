"""What queues say of themselves: the status of ClusterQueues and LocalQueues. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Final

from corral.batch.model import FlavorResource, text
from corral.batch.quota import Tree
from corral.batch.views import World, is_admitted, is_stopped, queue_of, usage_of
from corral.kinds import conditions
from corral.kinds.types import Key, Obj, key_of

_LARGEST: Final = 2**63 - 1


class Crowds:
    """Who waits in each ClusterQueue and LocalQueue, counted, and who holds their quota."""

    def __init__(self, world: World) -> None:
        self.pending: Counter[str | Key] = Counter()
        self.reserving: dict[str | Key, list[Obj]] = {}
        for waiting in world.state.waiting:
            self.pending[waiting.queue] += 1
        for workload in world.workloads:
            self.pending[_door(workload)] += 1
        for workload in world.reserving:
            self.pending[_door(workload)] -= 1
            for place in (queue_of(workload), _door(workload)):
                self.reserving.setdefault(place, []).append(workload)


def _door(workload: Obj) -> Key:
    return Key(workload["metadata"]["namespace"], workload["spec"].get("queueName") or "")


def cluster_queue_status(obj: Obj, world: World, tree: Tree, crowds: Crowds, now: datetime) -> Obj:
    """The status that a ClusterQueue should have."""
    name = obj["metadata"]["name"]
    held = crowds.reserving.get(name, [])
    carrier: Obj = {"status": {"conditions": deepcopy((obj.get("status") or {}).get("conditions") or [])}}
    why = world.closed(name)
    reason, message = (why.reason, why.message) if why else ("Ready", "Can admit new workloads")
    _active(carrier, obj, why is None, reason, message, now)
    spec = obj.get("spec") or {}
    places = _places(obj)
    share = tree.share(name)
    return {
        **carrier["status"],
        **_counts(held, crowds.pending[name]),
        "flavorsReservation": _usage(places, _sum(held, admitted=False), tree, name),
        "flavorsUsage": _usage(places, _sum(held, admitted=True), tree, name),
        **({"fairSharing": {"weightedShare": _whole(share)}} if spec.get("cohortName") else {}),
    }


def local_queue_status(obj: Obj, world: World, crowds: Crowds, now: datetime) -> Obj:
    """The status that a LocalQueue should have."""
    key = key_of(obj)
    held = crowds.reserving.get(key, [])
    carrier: Obj = {"status": {"conditions": deepcopy((obj.get("status") or {}).get("conditions") or [])}}
    name = (obj.get("spec") or {}).get("clusterQueue") or ""
    queue = world.cluster_queues.get(name)
    if is_stopped(obj):
        found = (False, "Stopped", "LocalQueue is stopped")
    elif queue is None:
        found = (False, "ClusterQueueDoesNotExist", "Can't submit new workloads to clusterQueue")
    elif world.closed(name) is not None:
        found = (False, "ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")
    else:
        found = (True, "Ready", "Can submit new workloads to localQueue")
    _active(carrier, obj, *found, now)
    places = _places(queue or {})
    return {
        **carrier["status"],
        **_counts(held, crowds.pending[key]),
        "flavorsReservation": _usage(places, _sum(held, admitted=False)),
        "flavorsUsage": _usage(places, _sum(held, admitted=True)),
    }


def _places(cluster_queue: Obj) -> list[list[FlavorResource]]:
    """What a ClusterQueue has quota of, flavor by flavor."""
    return [
        [FlavorResource(flavor["name"], quota["name"]) for quota in flavor["resources"]]
        for group in (cluster_queue.get("spec") or {}).get("resourceGroups") or ()
        for flavor in group["flavors"]
    ]


def _active(carrier: Obj, obj: Obj, active: bool, reason: str, message: str, now: datetime) -> None:
    value = "True" if active else "False"
    generation = obj["metadata"].get("generation")
    conditions.set_condition(
        carrier, "Active", value, now=now, reason=reason, message=message, observedGeneration=generation
    )


def _counts(reserving: Sequence[Obj], pending: int) -> Mapping[str, int]:
    return {
        "pendingWorkloads": pending,
        "reservingWorkloads": len(reserving),
        "admittedWorkloads": sum(is_admitted(workload) for workload in reserving),
    }


def _sum(workloads: Iterable[Obj], *, admitted: bool) -> dict[FlavorResource, int]:
    total: dict[FlavorResource, int] = {}
    for workload in workloads:
        if not admitted or is_admitted(workload):
            for place, used in usage_of(workload).items():
                total[place] = total.get(place, 0) + used
    return total


def _usage(
    places: Iterable[Iterable[FlavorResource]],
    used: Mapping[FlavorResource, int],
    tree: Tree | None = None,
    queue: str = "",
) -> list[Obj]:
    """The usage of each flavor in the form of the API; with what is borrowed if `tree` is given."""
    found: list[Obj] = []
    for flavor in places:
        resources: list[Obj] = []
        name = ""
        for place in flavor:
            name, amount = place.flavor, used.get(place, 0)
            entry: Obj = {"name": place.resource, "total": text(place.resource, amount)}
            if tree is not None:
                beyond = max(0, amount - tree.nominal(queue, place))
                entry["borrowed"] = text(place.resource, beyond)
            resources.append(entry)
        found.append({"name": name, "resources": resources})
    return found


def _whole(share: float) -> int:
    """A share in thousandths, rounded up, as Kueue shows it."""
    return _LARGEST if share == float("inf") else -int(-share * 1000 // 1)

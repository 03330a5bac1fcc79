"""What queues say of themselves: the status of ClusterQueues and LocalQueues. Pure."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Final

from corral.batch.model import FlavorResource, text
from corral.batch.quota import Tree
from corral.batch.views import World, is_admitted, is_reserving, is_stopped, queue_of, usage_of
from corral.kinds import conditions
from corral.kinds.types import Key, Obj

_LARGEST: Final = 2**63 - 1


def cluster_queue_status(obj: Obj, world: World, tree: Tree, workloads: Iterable[Obj], now: datetime) -> Obj:
    """The status that a ClusterQueue should have; `workloads` wait in it or hold its quota."""
    name = obj["metadata"]["name"]
    held = list(workloads)
    carrier: Obj = {"status": {"conditions": deepcopy((obj.get("status") or {}).get("conditions") or [])}}
    why = world.closed(name)
    reason, message = (why.reason, why.message) if why else ("Ready", "Can admit new workloads")
    _active(carrier, obj, why is None, reason, message, now)
    spec = obj.get("spec") or {}
    places = _places(obj)
    share = tree.share(name)
    return {
        **carrier["status"],
        **_counts(held),
        "flavorsReservation": _usage(places, _sum(held, admitted=False), tree, name),
        "flavorsUsage": _usage(places, _sum(held, admitted=True), tree, name),
        **({"fairSharing": {"weightedShare": _whole(share)}} if spec.get("cohortName") else {}),
    }


def local_queue_status(obj: Obj, world: World, workloads: Iterable[Obj], now: datetime) -> Obj:
    """The status that a LocalQueue should have; `workloads` are those that were given to it."""
    held = list(workloads)
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
        **_counts(held),
        "flavorsReservation": _usage(places, _sum(held, admitted=False)),
        "flavorsUsage": _usage(places, _sum(held, admitted=True)),
    }


def by_queue(world: World) -> tuple[dict[str, list[Obj]], dict[Key, list[Obj]]]:
    """The Workloads that are not finished, by ClusterQueue and by LocalQueue."""
    cluster: dict[str, list[Obj]] = {}
    local: dict[Key, list[Obj]] = {}
    for workload in world.workloads:
        name = queue_of(workload) if is_reserving(workload) else world.where(workload)[0]
        cluster.setdefault(name, []).append(workload)
        key = Key(workload["metadata"]["namespace"], workload["spec"].get("queueName") or "")
        local.setdefault(key, []).append(workload)
    return cluster, local


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


def _counts(workloads: Iterable[Obj]) -> Mapping[str, int]:
    reserving = [workload for workload in workloads if is_reserving(workload)]
    return {
        "pendingWorkloads": sum(not is_reserving(workload) for workload in workloads),
        "reservingWorkloads": len(reserving),
        "admittedWorkloads": sum(is_admitted(workload) for workload in reserving),
    }


def _sum(workloads: Iterable[Obj], *, admitted: bool) -> dict[FlavorResource, int]:
    total: dict[FlavorResource, int] = {}
    for workload in workloads:
        if is_admitted(workload) if admitted else is_reserving(workload):
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

"""What a queue looks like from outside: its quota, who waits in which order, why, and for how long. Pure.

Positions and names follow Kueue's visibility API (PendingWorkloadsSummary). Whoever may look at a LocalQueue learns
the names in its own namespace and how many of others' are before them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.base.clock import parse_rfc3339
from corral.batch import eta
from corral.batch.admission import admit, lines, tree_of
from corral.batch.model import FlavorResource, Queue, Shortage, Wait, Waiting, text
from corral.batch.quota import Tree
from corral.batch.views import World, is_admitted, is_reserving, place_of, queue_of, usage_of
from corral.kinds import conditions
from corral.kinds.owners import owners_of
from corral.kinds.types import Key, Obj, key_of


def local_queue(world: World, key: Key, finishes: Iterable[eta.Finish], now: datetime) -> Obj | None:
    """What is to be said of a LocalQueue; None if there is none."""
    local = world.local_queues.get(key)
    if local is None:
        return None
    name = (local.get("spec") or {}).get("clusterQueue") or ""
    found = cluster_queue(world, name, finishes, now, namespace=key.namespace)
    if found is None:
        found = {"clusterQueue": name, "resources": [], "items": [], "admitted": [], "throughput": None}
        found["inactive"] = f"ClusterQueue {name} doesn't exist"
    mine = [item for item in (*found["items"], *_outside(world, key)) if item["localQueue"] == key.name]
    for position, item in enumerate(mine):
        if item["position"] is not None:
            item["positionInLocalQueue"] = position
    running = [item for item in found["admitted"] if item["localQueue"] == key.name]
    head = {"kind": "LocalQueue", "name": key.name, "namespace": key.namespace}
    return {**found, **head, "items": mine, "admitted": running}


def cluster_queue(
    world: World, name: str, finishes: Iterable[eta.Finish], now: datetime, *, namespace: str = ""
) -> Obj | None:
    """What is to be said of a ClusterQueue, with the names of `namespace` only if one is given; None if there is no
    such queue."""
    queue = next((one for one in world.state.queues if one.name == name), None)
    if queue is None:
        return None
    tree = tree_of(world.state)
    seen = eta.throughput(finishes, name, tree, now)
    said = {
        "kind": "ClusterQueue",
        "name": name,
        "clusterQueue": name,
        "cohort": queue.cohort,
        "strategy": "StrictFIFO" if queue.strict else "BestEffortFIFO",
        "inactive": queue.closed,
        "share": tree.share(name),
        "resources": [_resource(queue, place, tree) for place in queue.quotas],
        "throughput": {"finished": seen.finished, "seconds": round(seen.seconds), "known": seen.known},
    }
    items = _items(world, queue, tree, seen, now, namespace)
    return {**said, "items": items, "admitted": _admitted(world, name, namespace)}


def _resource(queue: Queue, place: FlavorResource, tree: Tree) -> Obj:
    amounts = {
        "quota": tree.nominal(queue.name, place),
        "used": tree.used(queue.name, place),
        "borrowed": tree.borrowed(queue.name, place),
        "free": max(0, tree.free(queue.name, place)),
        "most": tree.most(queue.name, place),
    }
    return {**place._asdict(), **{name: text(place.resource, amount) for name, amount in amounts.items()}}


def _items(world: World, queue: Queue, tree: Tree, seen: eta.Throughput, now: datetime, namespace: str) -> list[Obj]:
    line = lines(world.state).get(queue.name, [])
    by_key = {key_of(workload): workload for workload in world.workloads}
    waits = {wait.key: wait for wait in admit(world.state, now).wait} if line else {}
    flavors = {name: group.flavors for group in queue.groups for name in group.resources}
    found: list[Obj] = []
    names: list[str] = []
    hidden = 0
    for position, (workload, seconds) in enumerate(
        zip(line, eta.etas(queue.name, line, tree, flavors, seen, now), strict=True)
    ):
        obj = by_key[workload.key]
        if namespace and workload.key.namespace != namespace:
            hidden += 1
            continue
        wait = waits.get(workload.key)
        never = wait is not None and bool(wait.shortages) and all(lack.limit for lack in wait.shortages)
        found.append(
            {
                **_who(obj),
                "position": position,
                "ahead": list(names),
                "aheadElsewhere": hidden,
                "created": obj["metadata"]["creationTimestamp"],
                "why": queue.closed or _why(workload, wait, queue, tree, line),
                "eta": None if seconds is None or never or queue.closed else round(seconds),
                "never": never,
            }
        )
        names.append(_title(obj) if namespace else f"{workload.key.namespace}/{_title(obj)}")
    return found


def _outside(world: World, key: Key) -> list[Obj]:
    """Those that wait in a LocalQueue without a place in line, each with what keeps it out."""
    by_key = {key_of(workload): workload for workload in world.workloads}
    found = []
    for waiting in sorted(world.state.waiting, key=lambda one: one.place):
        obj = by_key[waiting.key]
        if waiting.closed and waiting.key.namespace == key.namespace and obj["spec"].get("queueName") == key.name:
            created = obj["metadata"]["creationTimestamp"]
            rest: Obj = {"position": None, "ahead": [], "aheadElsewhere": 0, "eta": None, "never": False}
            found.append({**_who(obj), **rest, "created": created, "why": waiting.closed})
    return found


def _why(workload: Waiting, wait: Wait | None, queue: Queue, tree: Tree, line: Sequence[Waiting]) -> str:
    if wait is None:
        behind = queue.strict and line[0].key != workload.key
        return f"waits behind {line[0].key.name}: the queue is StrictFIFO" if behind else "is about to be admitted"
    if not wait.shortages:
        return wait.message
    said = "; ".join(dict.fromkeys(_lack(lack, queue, tree) for lack in wait.shortages))
    _, dot, preempting = wait.message.partition(". ")
    return f"{said}; {preempting}" if dot else said


def _lack(lack: Shortage, queue: Queue, tree: Tree) -> str:
    place = lack.place

    def of(amount: int) -> str:
        return text(place.resource, amount)

    head = f"needs {of(lack.needed)} {place.resource} of flavor {place.flavor}"
    if lack.limit:
        return f"{head}: more than the queue ever has, {of(lack.free)}"
    nominal, used = tree.nominal(queue.name, place), tree.used(queue.name, place)
    return f"{head}: quota {of(nominal)}, used {of(used)}, free {of(lack.free)}"


def _admitted(world: World, queue: str, namespace: str) -> list[Obj]:
    found = []
    for obj in sorted(world.workloads, key=place_of):
        if is_reserving(obj) and queue_of(obj) == queue and namespace in ("", obj["metadata"]["namespace"]):
            since = (conditions.get(obj, "QuotaReserved") or {}).get("lastTransitionTime")
            usage = [
                {"flavor": place.flavor, "resource": place.resource, "amount": text(place.resource, amount)}
                for place, amount in usage_of(obj).items()
            ]
            found.append({**_who(obj), "since": since, "stopping": not is_admitted(obj), "usage": usage})
    return found


def _who(workload: Obj) -> Obj:
    metadata, spec = workload["metadata"], workload["spec"]
    return {
        "workload": metadata["name"],
        "namespace": metadata["namespace"],
        "localQueue": spec.get("queueName") or "",
        "owner": _title(workload),
        "priority": int(spec.get("priority") or 0),
    }


def _title(workload: Obj) -> str:
    """What the person who made it calls it: `job/NAME`, or the Workload itself if it is of many."""
    owners = owners_of(workload)
    if len(owners) != 1:
        return f"workload/{workload['metadata']['name']}"
    return f"{owners[0]['kind'].lower()}/{owners[0]['name']}"


def finish_of(workload: Obj) -> eta.Finish | None:
    """A finished Workload as what was seen to end; None if it never had quota."""
    ended = conditions.get(workload, "Finished")
    if ended is None or not queue_of(workload):
        return None
    whole = {**workload, "status": {**workload["status"], "reclaimablePods": []}}
    return eta.Finish(parse_rfc3339(ended["lastTransitionTime"]), queue_of(workload), usage_of(whole))

"""How many replicas each ReplicaSet of a Deployment should have next. Pure.

A step never lets the number of pods exceed `replicas + maxSurge`, nor removes an available pod while only
`replicas - maxUnavailable` are available. What a ReplicaSet's status calls available is never believed beyond what its
spec still asks for, because the status lags behind a scale-down.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from corral.controllers.deployments.revisions import DESIRED, MAXIMUM, Revisions, wanted_replicas
from corral.controllers.pods.shares import resolve
from corral.kinds.types import Obj

Sizes = Mapping[str, int]
"""Wanted replicas by the name of the ReplicaSet; those that stay as they are may be absent."""


def bounds(deployment: Obj) -> tuple[int, int]:
    """maxSurge and maxUnavailable in pods: percentages of `replicas`, surge rounded up, unavailable down.

    Both 0 would never move, so unavailable is then 1 (Kubernetes' ResolveFenceposts).
    """
    strategy = deployment["spec"].get("strategy") or {}
    replicas = wanted_replicas(deployment)
    if strategy.get("type") == "Recreate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = resolve(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = resolve(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def maximum(deployment: Obj) -> int:
    """How many pods there may be at once."""
    return wanted_replicas(deployment) + bounds(deployment)[0]


def first_size(deployment: Obj, revisions: Revisions) -> int:
    """How many replicas the current ReplicaSet may have now."""
    replicas = wanted_replicas(deployment)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return replicas
    now = wanted_replicas(revisions.new) if revisions.new is not None else 0
    total = sum(map(wanted_replicas, revisions.all))
    room = maximum(deployment) - total
    return now + min(room, replicas - now) if room > 0 else now


def rolling_step(deployment: Obj, revisions: Revisions) -> Sizes:
    """One step of a rolling update: the current ReplicaSet grows, else the old ones shrink."""
    new = revisions.new
    if new is None:
        return {}
    replicas, size = wanted_replicas(deployment), wanted_replicas(new)
    if size > replicas:
        return {_name(new): replicas}
    grown = first_size(deployment, revisions)
    if grown > size:
        return {_name(new): grown}
    return _shrink_old(deployment, revisions, new)


def _shrink_old(deployment: Obj, revisions: Revisions, new: Obj) -> Sizes:
    sizes = {_name(old): wanted_replicas(old) for old in revisions.old}
    if not any(sizes.values()):
        return {}
    least = wanted_replicas(deployment) - bounds(deployment)[1]
    not_yet = wanted_replicas(new) - available(new)
    removable = sum(sizes.values()) + wanted_replicas(new) - least - not_yet
    if removable <= 0:
        return {}
    before = dict(sizes)
    for old in revisions.old:
        unhealthy = min(removable, sizes[_name(old)] - available(old))
        sizes[_name(old)] -= unhealthy
        removable -= unhealthy
    spare = available(new) + sum(min(available(old), sizes[_name(old)]) for old in revisions.old) - least
    for old in revisions.old:
        taken = max(0, min(spare, sizes[_name(old)]))
        sizes[_name(old)] -= taken
        spare -= taken
    return {name: size for name, size in sizes.items() if size != before[name]}


def available(replica_set: Obj) -> int:
    """Available pods that the ReplicaSet is going to keep."""
    told = int((replica_set.get("status") or {}).get("availableReplicas") or 0)
    return min(told, wanted_replicas(replica_set))


def is_resized(deployment: Obj, revisions: Revisions) -> bool:
    """Whether `spec.replicas` changed since the ReplicaSets that have pods were sized."""
    replicas = str(wanted_replicas(deployment))
    return any(
        wanted_replicas(found) > 0 and (found["metadata"].get("annotations") or {}).get(DESIRED, replicas) != replicas
        for found in revisions.all
    )


def resize(deployment: Obj, revisions: Revisions) -> Sizes:
    """The sizes after a change of `spec.replicas`: in the middle of a rollout, each grows or shrinks in proportion."""
    replicas = wanted_replicas(deployment)
    active = [found for found in revisions.all if wanted_replicas(found) > 0]
    if len(active) <= 1:
        only = active[0] if active else revisions.new or (revisions.old[-1] if revisions.old else None)
        return {} if only is None else {_name(only): replicas}
    if _is_saturated(deployment, revisions.new):
        return {_name(old): 0 for old in revisions.old if wanted_replicas(old) > 0}
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return {}
    return _in_proportion(deployment, active)


def _in_proportion(deployment: Obj, active: Sequence[Obj]) -> Sizes:
    replicas = wanted_replicas(deployment)
    allowed = maximum(deployment) if replicas > 0 else 0
    change = allowed - sum(map(wanted_replicas, active))
    newest_first = list(reversed(active)) if change > 0 else list(active)
    ordered = sorted(newest_first, key=wanted_replicas, reverse=True)
    sizes: dict[str, int] = {}
    given = 0
    for found in ordered:
        share = _share(deployment, found, allowed)
        share = max(0, min(share, change - given)) if change > 0 else min(0, max(share, change - given))
        sizes[_name(found)] = wanted_replicas(found) + share
        given += share
    largest = _name(ordered[0])
    sizes[largest] = max(0, sizes[largest] + change - given)
    return sizes


def _share(deployment: Obj, replica_set: Obj, allowed: int) -> int:
    size = wanted_replicas(replica_set)
    if wanted_replicas(deployment) == 0:
        return -size
    told = (replica_set["metadata"].get("annotations") or {}).get(MAXIMUM, "")
    former = int(told) if told.isdigit() else int((deployment.get("status") or {}).get("replicas") or 0)
    if former <= 0:
        return 0
    return math.floor(Fraction(size * allowed, former) + Fraction(1, 2)) - size


def _is_saturated(deployment: Obj, new: Obj | None) -> bool:
    if new is None:
        return False
    replicas = wanted_replicas(deployment)
    told = (new["metadata"].get("annotations") or {}).get(DESIRED, "")
    return wanted_replicas(new) == replicas and told == str(replicas) and available(new) == replicas


def _name(obj: Obj) -> str:
    name: str = obj["metadata"]["name"]
    return name
